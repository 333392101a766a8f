"""What a run emitted, and the comparison of rows with it.

Nothing here shares code with the agent: the receiver's sentences are read by the few lines below, from
NMEA 0183's definitions of RMC, GGA, VTG and GSA.
"""

import collections
import datetime
import hashlib
import json
import pathlib
import struct

KNOT_M_S = 1852 / 3600  # one nautical mile an hour


def f64_bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def as_f64_bits(f32_bits):
    """Bits of the double that equals a float given by its bits."""
    return f64_bits(struct.unpack("<f", struct.pack("<I", f32_bits))[0])


def number(text):
    return float(text) if text else None


def angle(text, side):
    """`ddmm.mmm` or `dddmm.mmm` and its side, in degrees."""
    point = text.index(".")
    return (float(text[: point - 2]) + float(text[point - 2 :]) / 60.0) * (-1.0 if side in "SW" else 1.0)


def fix_of(sentences):
    """The fix a cycle of sentences tells: what RMC and GGA say, dilution from GSA where GGA has none."""
    fix = dict.fromkeys(("lat", "lon", "alt_msl", "geoid_sep", "sog", "cog", "hdop", "satellites", "quality"))
    rest = {}
    for sentence in sentences.split():
        body, _, claimed = sentence.lstrip("$").partition("*")
        check = 0
        for byte in body.encode():
            check ^= byte
        assert check == int(claimed, 16), f"the recording's own sentence is damaged: {sentence}"
        f = body.split(",")
        if f[0].endswith("RMC"):
            assert f[2] == "A", f"a cycle without a fix: {sentence}"
            rest["place"] = angle(f[3], f[4]), angle(f[5], f[6])
            speed, course = number(f[7]), number(f[8])
            fix["sog"] = None if speed is None else speed * KNOT_M_S
            fix["cog"] = course
        elif f[0].endswith("VTG"):
            rest["cog"], rest["sog"] = number(f[1]), number(f[5])
        elif f[0].endswith("GSA"):
            rest["hdop"] = number(f[16])
        elif f[0].endswith("GGA"):
            assert int(f[6]) > 0, f"a cycle without a fix: {sentence}"
            fix["lat"], fix["lon"] = angle(f[2], f[3]), angle(f[4], f[5])
            fix["quality"], fix["satellites"] = int(f[6]), int(f[7])
            fix["hdop"], fix["alt_msl"], fix["geoid_sep"] = number(f[8]), number(f[9]), number(f[11])
    assert (fix["lat"], fix["lon"]) == rest["place"], "RMC and GGA of a cycle name two places"
    if fix["sog"] is None and rest.get("sog") is not None:
        fix["sog"] = rest["sog"] * KNOT_M_S
    for name in ("cog", "hdop"):
        if fix[name] is None:
            fix[name] = rest.get(name)
    return fix


class Truth:
    """The truth of one run."""

    IMU = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
    GPS = ("lat", "lon", "alt_msl", "geoid_sep", "sog", "cog", "hdop", "satellites", "quality")
    ENV = ("temperature", "humidity", "wind_speed", "pressure")
    KEY = ("epoch", "stream", "seq", "ts", "ts_ns")

    def __init__(self, path):
        self.next_seq, self.imu, self.gps, self.image, self.env = {}, {}, {}, {}, {}
        for line in pathlib.Path(path).read_text().splitlines():
            told = json.loads(line)
            match told["of"]:
                case "spool":
                    self.next_seq[told["epoch"], told["stream"]] = told["next_seq"]
                case "imu":
                    self.imu[told["n"]] = [as_f64_bits(x) for x in told["f32_bits"]]
                case "gps":
                    self.gps[told["utc_ns"]] = told["times"], fix_of(told["sentences"])
                case "image":
                    self.image[told["name"]] = told["sha256"]
                case "env":
                    self.env[told["n"]] = told["f64_bits"]
        assert self.imu and self.gps and self.image and self.env, "the run's truth is empty"

    def compare(self, read):
        """Compares what `read(table, columns)` gives as tuples; yields a line per table."""
        self.seqs = collections.defaultdict(set)
        yield self._table(read, "raw.imu", ("n", *self.IMU), self._imu_is_right)
        yield self._table(read, "raw.gps_fix", ("utc", *self.GPS), self._gps_is_right)
        yield self._table(read, "raw.image", ("name", "hash", "image"), self._image_is_right)
        yield self._table(read, "raw.env", ("n", *self.ENV), self._env_is_right)
        yield self._captured_is_there(read)

    def _table(self, read, name, columns, is_right):
        rows = read(name, (*self.KEY, *columns))
        for epoch, stream, seq, ts, ts_ns, *values in rows:
            seen = self.seqs[epoch, stream]
            assert seq not in seen, f"{name}: seq {seq} of {stream} is there twice"
            seen.add(seq)
            since_1970 = ts - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
            assert since_1970 // datetime.timedelta(microseconds=1) == ts_ns // 1000, f"{name} seq {seq}: {ts}, {ts_ns}"
            wrong = is_right(*values)
            assert wrong is None, f"{name}: seq {seq} of {stream}: {wrong}"
        return f"{name:<18} {len(rows):>8} rows are what was emitted, bit by bit"

    def _imu_is_right(self, n, *values):
        if self.imu.get(n) != [f64_bits(x) for x in values]:
            return f"row {n} says {values}"

    def _gps_is_right(self, utc, *values):
        _, fix = self.gps.get(utc, (0, {}))
        want = [fix.get(name) for name in self.GPS]
        if [None if x is None else f64_bits(x) for x in want] != [None if x is None else f64_bits(x) for x in values]:
            return f"the fix of {utc} says {values}, its sentences {want}"

    def _image_is_right(self, name, digest, image):
        of_bytes = hashlib.sha256(image["bytes"]).hexdigest()
        if not digest == of_bytes == self.image.get(name):
            return f"picture {name} is not the one that was placed"

    def _env_is_right(self, n, *values):
        if self.env.get(n) != [f64_bits(x) for x in values]:
            return f"row {n} says {values}"

    def _captured_is_there(self, read):
        """Every seq the spool gave out is a row once, or a gap record says why it is not."""
        for epoch, stream, lo, hi in read("ops.gaps", ("epoch", "stream", "seq_lo", "seq_hi")):
            if lo is not None and hi is not None:
                self.seqs[epoch, stream].update(range(lo, hi + 1))
        judged = 0
        for (epoch, stream), next_seq in self.next_seq.items():
            if stream.startswith("hw/"):
                continue
            missing = set(range(next_seq)) - self.seqs[epoch, stream]
            assert not missing, f"{stream}: {len(missing)} captured rows are not in the lake, such as {min(missing)}"
            judged += next_seq
        assert judged > 0, "the spool captured nothing"
        return f"{'captured':<18} {judged:>8} seqs are each one row or in a gap record"
