#!/usr/bin/env python3
"""Values that other libraries give, for the tests of collector/align/src/derive.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 pandas==3.1.1 h3==4.5.0 pygeohash==3.5.1 pyproj==3.7.2 shapely==2.2.0
    venv/bin/python tests/golden/derive/make.py

writes reference.json beside this file. Nothing here shares code with what is tested.
"""

import json
import pathlib

import h3
import numpy as np
import pandas as pd
import pygeohash
import scipy.signal
import shapely
from pyproj import Geod

rng = np.random.default_rng(7)


def series(n, step_ms, jitter_ms):
    """Times in ns with jitter, and a signal with noise and spikes."""
    t = np.arange(n) * step_ms * 1_000_000
    t = np.sort(t + (rng.integers(-1000, 1001, n) * jitter_ms * 1000)) if jitter_ms else t
    x = np.sin(t / 3e8) * 4 + t / 1e9 + rng.standard_normal(n) * 0.3
    x[rng.integers(0, n, n // 20)] += 25
    return t.astype(np.int64), x


def floats(values):
    return [None if v is None or np.isnan(v) else float(v) for v in values]


def smoothing():
    even_t, even = series(120, 10, 0)
    odd_t, odd = series(100, 10, 3)
    out = {
        "even": {"times": even_t.tolist(), "values": floats(even)},
        "uneven": {"times": odd_t.tolist(), "values": floats(odd)},
        "median": {},
        "savitzky_golay": {},
        "local_polynomial": {},
        "exponential": {},
        "mad": {},
    }
    for n in (1, 3, 5, 21, 119):
        out["median"][str(n)] = floats(pd.Series(even).rolling(n, center=True, min_periods=1).median())
    # Its coefficients come from unscaled powers: beyond these orders it loses more digits than the tests allow.
    for n, p in ((3, 1), (5, 2), (11, 3), (21, 0), (51, 5), (7, 6), (119, 3)):
        out["savitzky_golay"][f"{n},{p}"] = floats(scipy.signal.savgol_filter(even, n, p, mode="interp"))
    for n, p in ((5, 2), (11, 3), (31, 4), (99, 12)):
        fitted = []
        for i in range(len(odd)):
            start = min(max(i - n // 2, 0), len(odd) - n)
            at = (odd_t[start : start + n] - odd_t[i]) / 1e8
            # Over its own domain, or high orders lose their digits.
            fitted.append(np.polynomial.Chebyshev.fit(at, odd[start : start + n], p)(0.0))
        out["local_polynomial"][f"{n},{p}"] = floats(fitted)
    for tau_ms in (5, 40, 300):
        halflife = pd.Timedelta(int(round(tau_ms * 1e6 * np.log(2))), "ns")
        times = pd.to_datetime(odd_t)
        out["exponential"][str(tau_ms)] = floats(pd.Series(odd).ewm(halflife=halflife, times=times).mean())
    for n, limit in ((5, 3.0), (21, 5.0)):
        hits = []
        for i in range(len(even)):
            window = even[max(0, i - n // 2) : i + n // 2 + 1]
            middle = np.median(window)
            scale = np.median(np.abs(window - middle)) / 0.6744897501960817
            hits.append(bool(abs(even[i] - middle) > limit * scale))
        out["mad"][f"{n},{limit:g}"] = hits
    return out


def bands():
    out = []
    for n, rate in ((64, 100.0), (50, 250.0), (97, 100.0), (500, 1000.0), (5, 10.0), (1, 10.0)):
        x = rng.standard_normal(n) + 3 * np.sin(2 * np.pi * 20 * np.arange(n) / rate) + 7
        found = []
        for window, taper in (("boxcar", "none"), ("hann", "hann")):
            f, p = scipy.signal.periodogram(x, rate, window=window, detrend="constant", scaling="density")
            for lo, hi in ((0, rate), (10, 30), (20, 20.5), (rate / 2, rate)):
                inside = (f >= lo) & (f < hi)
                power = float(np.sum(p[inside]) * rate / n)
                power = None if np.isnan(power) else power
                found.append({"taper": taper, "lo": lo, "hi": hi, "power": power})
        out.append({"values": floats(x), "rate": rate, "bands": found})
    return out


def lists():
    out = []
    for values in ([1.0, 2.0, 4.0], [5.0], [1e16, 1.0, -1e16], rng.standard_normal(100).tolist()):
        a = np.array(values)
        std = float(np.std(a, ddof=1)) if len(a) > 1 else None
        out.append(
            {
                "values": values,
                "mean": float(np.mean(a.astype(np.longdouble))),
                "min": float(a.min()),
                "max": float(a.max()),
                "std": std,
                "sum": float(np.sum(a.astype(np.longdouble))),
                "count": len(values),
                "first": values[0],
                "last": values[-1],
                "median": float(np.median(a)),
                "rms": float(np.sqrt(np.mean(a.astype(np.longdouble) ** 2))),
                "range": float(a.max() - a.min()),
                "energy": float(np.sum(a.astype(np.longdouble) ** 2)),
            }
        )
    return out


def places():
    lats = np.concatenate([[0, 90, -90, 52.520008, -33.8688, 57.64911, 89.9999, -0.0], rng.uniform(-90, 90, 60)])
    lons = np.concatenate([[0, 0, 0, 13.404954, 151.2093, 10.40744, 180.0, -180.0], rng.uniform(-180, 180, 60)])
    out = []
    for lat, lon in zip(lats.tolist(), lons.tolist()):
        cells = {str(r): h3.latlng_to_cell(lat, lon, r) for r in (0, 5, 9, 15)}
        hashes = {str(n): pygeohash.encode(lat, lon, n) for n in (1, 7, 12)}
        out.append({"lat": lat, "lon": lon, "h3": cells, "geohash": hashes})
    return out


def ways():
    geod, ball = Geod(ellps="WGS84"), Geod(a=6371008.8, b=6371008.8)
    fixed = [
        (52.52, 13.40, 52.5201, 13.4003),
        (0.0, 179.9999, 0.0, -179.9999),
        (89.9999, 10.0, 89.9999, -170.0),
        (10.0, 20.0, 10.0, 20.0),
        (-45.0, 170.0, -45.001, -170.0),
        (0.0, 0.0, 0.0, 90.0),
        (30.0, 0.0, -29.9, 179.8),
    ]
    some = [tuple(v) for v in np.column_stack([rng.uniform(-89, 89, 60), rng.uniform(-180, 180, 60)]).tolist()]
    near = [(lat, lon, lat + rng.uniform(-0.01, 0.01), lon + rng.uniform(-0.01, 0.01)) for lat, lon in some]
    out = []
    for lat1, lon1, lat2, lon2 in fixed + near:
        row = {"from": [lat1, lon1], "to": [lat2, lon2]}
        for name, figure in (("wgs84", geod), ("great_circle", ball)):
            _, back, metres = figure.inv(lon1, lat1, lon2, lat2)
            row[name] = {"distance": metres, "heading": (back + 180) % 360}
        out.append(row)
    return out


def fences():
    corners = [(13.0, 52.0), (14.5, 52.2), (14.0, 53.0), (13.4, 52.5), (12.7, 52.9)]
    polygon = shapely.Polygon(corners)
    points = [(float(rng.uniform(12.5, 14.7)), float(rng.uniform(51.9, 53.1))) for _ in range(200)]
    inside = [bool(polygon.contains(shapely.Point(p))) for p in points]
    return {"corners": corners, "points": points, "inside": inside}


reference = {
    "smoothing": smoothing(),
    "bands": bands(),
    "lists": lists(),
    "places": places(),
    "ways": ways(),
    "fences": fences(),
}
path = pathlib.Path(__file__).with_name("reference.json")
sections = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in reference.items()]
path.write_text("{\n" + ",\n".join(sections) + "\n}\n")
