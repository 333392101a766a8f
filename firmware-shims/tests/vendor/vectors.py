"""Writes vectors.txt: frames made by other implementations, and what is in them.

    python3 -m venv env && env/bin/pip install pymavlink==2.4.50 pyubx2==1.4.0
    env/bin/python vectors.py > vectors.txt

A line: kind | frame in hexadecimal | field=value ...; values in the units of our names.
"""

import os

os.environ["MAVLINK20"] = "1"

from pymavlink.dialects.v20 import common as mav
from pyubx2 import GET, UBXMessage


def ubx(kind, cls, name, values, **fields):
    print(kind, UBXMessage(cls, name, GET, **fields).serialize().hex(), values, sep="|")


ubx(
    "ubx_nav_pvt", "NAV", "NAV-PVT",
    "itow_ms=123456789 utc_ns=1709251197999876544 time_accuracy_ns=25 fully_resolved=true fix_type=3 fix_ok=true "
    "differential=true carrier_solution=2 satellites=17 lon_deg=-121.3143166 lat_deg=44.0688169 height_m=1234.567 "
    "height_msl_m=1212.345 horizontal_accuracy_m=1.5 vertical_accuracy_m=2.5 velocity_north_m_s=-1.234 "
    "velocity_east_m_s=0.567 velocity_down_m_s=-0.089 ground_speed_m_s=1.358 heading_deg=155.32509 "
    "speed_accuracy_m_s=0.3 heading_accuracy_deg=1.5 pdop=1.23",
    iTOW=123456789, year=2024, month=2, day=29, hour=23, min=59, second=58, validDate=1, validTime=1, fullyResolved=1,
    validMag=0, tAcc=25, nano=-123456, fixType=3, gnssFixOk=1, diffSoln=1, carrSoln=2, numSV=17, lon=-121.3143166,
    lat=44.0688169, height=1234567, hMSL=1212345, hAcc=1500, vAcc=2500, velN=-1234, velE=567, velD=-89, gSpeed=1358,
    headMot=155.325095, sAcc=300, headAcc=1.5, pDOP=1.23,
)
ubx(
    "ubx_nav_posllh", "NAV", "NAV-POSLLH",
    "itow_ms=7 lon_deg=2.5 lat_deg=-45.25 height_m=-0.005 height_msl_m=10 horizontal_accuracy_m=0.011 "
    "vertical_accuracy_m=0.012",
    iTOW=7, lon=2.5, lat=-45.25, height=-5, hMSL=10000, hAcc=11, vAcc=12,
)
ubx(
    "ubx_nav_velned", "NAV", "NAV-VELNED",
    "itow_ms=8 velocity_north_m_s=-1.5 velocity_east_m_s=2.5 velocity_down_m_s=0.03 speed_m_s=2.91 "
    "ground_speed_m_s=2.9 heading_deg=120.5 speed_accuracy_m_s=0.12 heading_accuracy_deg=0.75",
    iTOW=8, velN=-150, velE=250, velD=3, speed=291, gSpeed=290, heading=120.500005, sAcc=12, cAcc=0.75,
)
ubx(
    "ubx_nav_timels", "NAV", "NAV-TIMELS", "itow_ms=9 leap_s=18 leap_change_s=-1 until_change_s=3600",
    iTOW=9, currLs=18, lsChange=-1, timeToLsEvent=3600, dateOfLsGpsWn=2000, dateOfLsGpsDn=7, validCurrLs=1,
    validTimeToLsEvent=1,
)
ubx(
    "ubx_tim_tm2", "TIM", "TIM-TM2",
    "channel=1 count=513 rising=true falling=true time_base=2 time_valid=true rising_week=2000 rising_tow_ms=1000 "
    "rising_rest_ns=250000 falling_week=2001 falling_tow_ms=1001 falling_rest_ns=7 accuracy_ns=33",
    ch=1, mode=0, run=1, newFallingEdge=1, timeBase=2, utc=1, time=1, newRisingEdge=1, count=513, wnR=2000, wnF=2001,
    towMsR=1000, towSubMsR=250000, towMsF=1001, towSubMsF=7, accEst=33,
)
ubx(
    "ubx_nav_sat", "NAV", "NAV-SAT",
    "itow_ms=10 seen=3 tracked=2 used=2 cno_max_db_hz=44 cno_used_mean_db_hz=37",
    iTOW=10, version=1, numSvs=3, gnssId_01=0, svId_01=5, cno_01=44, elev_01=45, azim_01=180, svUsed_01=1, gnssId_02=2,
    svId_02=11, cno_02=0, elev_02=-91, azim_02=0, svUsed_02=0, gnssId_03=6, svId_03=3, cno_03=30, elev_03=10,
    azim_03=359, svUsed_03=1,
)
ubx(
    "ubx_nav_svinfo", "NAV", "NAV-SVINFO",
    "itow_ms=12 seen=2 tracked=2 used=1 cno_max_db_hz=41 cno_used_mean_db_hz=41",
    iTOW=12, numCh=2, chipGen=4, chn_01=1, svid_01=14, svUsed_01=1, quality_01=7, cno_01=41, elev_01=60, azim_01=12,
    prRes_01=-3, chn_02=2, svid_02=120, svUsed_02=0, quality_02=1, cno_02=20, elev_02=5, azim_02=200, prRes_02=0,
)


class Nowhere:
    """What pymavlink writes to."""

    def write(self, _):
        pass


def mavlink(kind, message, values, version=2, signed=False, dialect=mav):
    link = dialect.MAVLink(Nowhere(), srcSystem=7, srcComponent=200)
    link.seq = 250
    if signed:
        link.signing.secret_key = bytes(range(32))
        link.signing.link_id = 3
        link.signing.timestamp = 1234567
        link.signing.sign_outgoing = True
    frame = message.pack(link, force_mavlink1=version == 1)
    print(kind, bytes(frame).hex(), f"system_id=7 component_id=200 {values}", sep="|")


heartbeat = "vehicle_type=2 autopilot=3 base_mode=81 custom_mode=5 system_status=4"
for version, signed in ((1, False), (2, False), (2, True)):
    mavlink("mavlink_heartbeat", mav.MAVLink_heartbeat_message(2, 3, 81, 5, 4, 3), heartbeat, version, signed)
mavlink(
    "mavlink_sys_status",
    mav.MAVLink_sys_status_message(0x0F, 0x07, 0x03, 255, 11800, -1, 76, 12, 3, 0, 0, 0, 0),
    "sensors_present=15 sensors_enabled=7 sensors_healthy=3 load_percent=25.5 battery_v=11.8 battery_a=missing "
    "battery_percent=76 drop_rate_percent=0.12 packet_errors=3",
)
mavlink("mavlink_system_time", mav.MAVLink_system_time_message(1700000000000001, 4242),
        "unix_us=1700000000000001 boot_ms=4242")
mavlink("mavlink_system_time", mav.MAVLink_system_time_message(0, 0), "unix_us=missing boot_ms=0")
for version in (1, 2):
    mavlink(
        "mavlink_gps_raw_int",
        mav.MAVLink_gps_raw_int_message(99, 3, 473977418, -1224194155, 488123, 121, 65535, 250, 17950, 12),
        "time_us=99 fix_type=3 lat_deg=47.3977418 lon_deg=-122.4194155 altitude_msl_m=488.123 hdop=1.21 vdop=missing "
        "ground_speed_m_s=2.5 course_deg=179.5 satellites=12",
        version,
    )
mavlink(
    "mavlink_raw_imu", mav.MAVLink_raw_imu_message(5, 1, -2, 3, -4, 5, -6, 7, -8, 9, 1, 2550),
    "time_us=5 acceleration_x_count=1 acceleration_y_count=-2 acceleration_z_count=3 rate_x_count=-4 rate_y_count=5 "
    "rate_z_count=-6 field_x_count=7 field_y_count=-8 field_z_count=9 sensor_id=1 temperature_cel=25.5",
)
imu = ("boot_ms=6 acceleration_x_m_s2=9.80665 acceleration_y_m_s2=-4.903325 acceleration_z_m_s2=0 rate_x_rad_s=0.001 "
       "rate_y_rad_s=-0.002 rate_z_rad_s=3 field_x_ut=10 field_y_ut=-20 field_z_ut=0.5 temperature_cel=")
mavlink("mavlink_scaled_imu", mav.MAVLink_scaled_imu_message(6, 1000, -500, 0, 1, -2, 3000, 100, -200, 5), imu + "missing",
        1)
mavlink("mavlink_scaled_imu2", mav.MAVLink_scaled_imu2_message(6, 1000, -500, 0, 1, -2, 3000, 100, -200, 5, 3000),
        imu + "30")
mavlink("mavlink_scaled_imu3", mav.MAVLink_scaled_imu3_message(6, 1000, -500, 0, 1, -2, 3000, 100, -200, 5, -50),
        imu + "-0.5")
pressure = "boot_ms=7 pressure_hpa=1013.25 differential_hpa=-0.5 temperature_cel=21.5 differential_cel="
mavlink("mavlink_scaled_pressure", mav.MAVLink_scaled_pressure_message(7, 1013.25, -0.5, 2150), pressure + "missing")
mavlink("mavlink_scaled_pressure2", mav.MAVLink_scaled_pressure2_message(7, 1013.25, -0.5, 2150, 2000), pressure + "20")
mavlink(
    "mavlink_attitude", mav.MAVLink_attitude_message(8, 0.5, -0.25, 3.0, 0.125, 0.0, -1.5),
    "boot_ms=8 roll_rad=0.5 pitch_rad=-0.25 yaw_rad=3 roll_rate_rad_s=0.125 pitch_rate_rad_s=0 yaw_rate_rad_s=-1.5",
)
mavlink(
    "mavlink_attitude_quaternion", mav.MAVLink_attitude_quaternion_message(8, 0.5, -0.5, 0.25, -0.25, 1.0, 2.0, 3.0),
    "boot_ms=8 q_w=0.5 q_x=-0.5 q_y=0.25 q_z=-0.25 roll_rate_rad_s=1 pitch_rate_rad_s=2 yaw_rate_rad_s=3",
)
mavlink(
    "mavlink_local_position_ned", mav.MAVLink_local_position_ned_message(9, 1.5, -2.5, -30.0, 0.5, 0.25, 0.0),
    "boot_ms=9 north_m=1.5 east_m=-2.5 down_m=-30 velocity_north_m_s=0.5 velocity_east_m_s=0.25 velocity_down_m_s=0",
)
mavlink(
    "mavlink_global_position_int",
    mav.MAVLink_global_position_int_message(10, -353632621, 1491652374, 584070, -15, 120, -250, 3, 65535),
    "boot_ms=10 lat_deg=-35.3632621 lon_deg=149.1652374 altitude_msl_m=584.07 altitude_home_m=-0.015 "
    "velocity_north_m_s=1.2 velocity_east_m_s=-2.5 velocity_down_m_s=0.03 heading_deg=missing",
)
mavlink(
    "mavlink_vfr_hud", mav.MAVLink_vfr_hud_message(12.5, 11.25, 270, 45, 584.5, -0.5),
    "air_speed_m_s=12.5 ground_speed_m_s=11.25 heading_deg=270 throttle_percent=45 altitude_msl_m=584.5 climb_m_s=-0.5",
)
mavlink(
    "mavlink_highres_imu",
    mav.MAVLink_highres_imu_message(11, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.25, 0.5, 0.75, 1000.0, 0.5, 111.0, 36.5, 8191, 2),
    "time_us=11 acceleration_x_m_s2=1 acceleration_y_m_s2=2 acceleration_z_m_s2=3 rate_x_rad_s=4 rate_y_rad_s=5 "
    "rate_z_rad_s=6 field_x_gauss=0.25 field_y_gauss=0.5 field_z_gauss=0.75 pressure_hpa=1000 differential_hpa=0.5 "
    "pressure_altitude_m=111 temperature_cel=36.5 fields_updated=8191 sensor_id=2",
)
mavlink(
    "mavlink_distance_sensor", mav.MAVLink_distance_sensor_message(12, 20, 4000, 1234, 0, 5, 25, 255),
    "boot_ms=12 sensor_id=5 orientation=25 distance_m=12.34 distance_min_m=0.2 distance_max_m=40 quality_percent=missing",
)
none = 65535
mavlink(
    "mavlink_battery_status",
    mav.MAVLink_battery_status_message(1, 1, 3, 2875, [4100, 4090, 4080] + [none] * 7, 1520, 350, -1, 66, 0, 1,
                                       [0, 0, 0, 0]),
    "battery_id=1 battery_function=1 battery_type=3 temperature_cel=28.75 pack_v=12.27 cells=3 current_a=15.2 "
    "consumed_ah=0.35 consumed_j=missing remaining_percent=66 remaining_s=missing charge_state=1",
)
mavlink(
    "mavlink_battery_status",
    mav.MAVLink_battery_status_message(0, 0, 0, 32767, [none] * 10, -1, -1, 25, -1, 600, 0),
    "temperature_cel=missing pack_v=missing cells=0 current_a=missing consumed_ah=missing consumed_j=2500 "
    "remaining_percent=missing remaining_s=600",
)
mavlink(
    "mavlink_vibration", mav.MAVLink_vibration_message(13, 0.5, 0.25, 1.5, 1, 2, 70000),
    "time_us=13 vibration_x_m_s2=0.5 vibration_y_m_s2=0.25 vibration_z_m_s2=1.5 clipping_0=1 clipping_1=2 clipping_2=70000",
)
mavlink("mavlink_statustext", mav.MAVLink_statustext_message(4, b"PreArm:_GPS_not_healthy"),
        "severity=4 text=PreArm:_GPS_not_healthy")
