"""Golden values of interpolation on spheres: pyproj (PROJ's geodesics, Karney) and scipy.

    pip install pyproj==3.7.2 scipy==1.17.1
    python tests/conformance/geometry.py > collector/align/src/engine/geometry/golden.tsv

Not part of `tests/run`: the table is committed, and the tests of headwater-align read it.
"""

import numpy as np
from pyproj import Geod
from scipy.spatial.transform import Rotation, Slerp

SPHERE_M = 6371008.8
rng = np.random.default_rng(7)


def put(kind, *numbers):
    print("\t".join([kind] + [repr(float(x)) for x in numbers]))


def geodesic(kind, geod, a, b, w):
    azimuth, _, length = geod.inv(a[1], a[0], b[1], b[0])
    lon, lat, _ = geod.fwd(a[1], a[0], azimuth, length * w)
    put(kind, *a, *b, w, lat, lon, length)


def main():
    earths = {"wgs84": Geod(ellps="WGS84"), "great_circle": Geod(a=SPHERE_M, f=0.0)}
    edges = [
        ((0, 0), (0, 1)), ((0, 179.9999), (0, -179.9999)), ((52.5, 179.99), (52.6, -179.98)), ((90, 0), (89.9, 45)),
        ((89.99, 10), (89.99, -170)), ((-90, 0), (-89.5, 170)), ((10, 20), (10, 20.0000001)), ((48.1, 11.5), (48.1000003, 11.5)),
        ((0, 0), (45, 90)), ((-33.9, 151.2), (51.5, -0.1)), ((60, 5), (-60, 100)), ((0, 0), (0, 170)),
    ]
    for kind, geod in earths.items():
        for a, b in edges:
            for w in (0.25, 0.5, 0.9):
                geodesic(kind, geod, a, b, w)
        for _ in range(40):
            a = (rng.uniform(-89, 89), rng.uniform(-180, 180))
            step = 10.0 ** rng.uniform(-7, 1)
            b = (float(np.clip(a[0] + rng.normal() * step, -90, 90)), a[1] + rng.normal() * step)
            geodesic(kind, geod, a, b, rng.uniform(0, 1))
    for n in range(60):
        a = rng.standard_normal(4)
        b = rng.standard_normal(4) if n % 3 else a + 10.0 ** rng.uniform(-9, -2) * rng.standard_normal(4)
        w = rng.uniform(0, 1)
        # scipy says x, y, z, w; we say w first.
        both = Rotation.from_quat([np.roll(a, -1), np.roll(b, -1)])
        between = np.roll(Slerp([0, 1], both)([w]).as_quat()[0], 1)
        angle = (both[0].inv() * both[1]).magnitude()
        put("slerp", *a, *b, w, *between, angle)


main()
