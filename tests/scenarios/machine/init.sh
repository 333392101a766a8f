#!/bin/busybox sh
# First process of the machine: brings it up, starts the agent, then does what the host says on the third serial line.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run/chrony /var/lib/chrony /data
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /data
chmod 700 /run/chrony
for module in MODULES; do insmod /modules/$module.ko || echo "no $module" >/dev/console; done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
# Nobody waits for a carrier.
stty -F /dev/ttyS1 raw -echo clocal
stty -F /dev/ttyS2 -echo -icrnl -onlcr clocal
exec 3<>/dev/ttyS2
date >/dev/console
while :; do
  agent --role agent run --config /gateway/agent.toml >/dev/console 2>&1
  sleep 1
done &
echo ready >&3
while read -r verb value <&3; do
  case $verb in
    network) ip link set eth0 "$value" && { [ "$value" = down ] || ip route replace default via 10.0.2.2; } ;;
    chrony) chronyd -d -F 0 -u root -f /etc/chrony.conf >/dev/console 2>&1 & ;;
    date) date -s "@$value" >/dev/null ;;
    status) value=$(tr -d '\n' </data/status.json) ;;
    touch) : >"$value" ;;
    look) (ps; for p in $(pidof sh) $(pidof cat); do echo $p; ls -l /proc/$p/fd; cat /proc/$p/wchan; cat /proc/$p/io; done) >/dev/console 2>&1 ;;
    halt) poweroff -f ;;
    *) value="unknown" ;;
  esac
  echo "$verb $value" >&3
done
poweroff -f
