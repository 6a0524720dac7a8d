#!/bin/sh
# A Podman of its own for tests: podman_service.sh FOLDER
#
# Starts `podman system service` with all its state in FOLDER, prints the address of its socket once
# it answers, and ends, folder and all, when its standard input does.
set -u
# Whoever ends this by a signal closes its standard input, too; then all is taken away in order.
trap : TERM INT
folder=$1
mkdir -p "$folder" || exit 1
# crun 1.8 refuses hybrid cgroups; without systemd there is no systemd cgroup manager; and the limits
# that podman would ask for may be above what this machine allows. The folders are no settings: the
# process that cleans up after a container would take others, and find no container.
limit() { # limit NAME: this process' hard limit
    awk -v name="Max $1 " 'index($0, name) == 1 { gsub("unlimited", "1048576"); print $(NF - 1) }' /proc/self/limits
}
files=$(limit "open files")
# The service lowers its own to this.
processes=$(cat /proc/sys/kernel/pid_max)
[ "$processes" -lt "$(limit processes)" ] || processes=$(limit processes)
cat > "$folder/containers.conf" << END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
export CONTAINERS_CONF="$folder/containers.conf"
podman --root "$folder/root" --runroot "$folder/run" --tmpdir "$folder/tmp" --storage-driver overlay \
    system service --time=0 "unix://$folder/sock" > "$folder/log" 2>&1 < /dev/null &
service=$!

waited=0
until curl --silent --output /dev/null --unix-socket "$folder/sock" http://podman/_ping; do
    waited=$((waited + 1))
    if [ $waited -gt 150 ] || ! kill -0 $service 2> /dev/null; then
        cat "$folder/log" >&2
        kill $service 2> /dev/null
        rm -rf "$folder"
        exit 1
    fi
    sleep 0.2
done
echo "unix://$folder/sock"
cat > /dev/null
kill $service 2> /dev/null
wait $service
umount "$folder/root/overlay" 2> /dev/null
rm -rf "$folder"
