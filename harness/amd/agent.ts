/**
 * The program that runs as process 1 of the machine: a busybox shell script, so that the harness needs no compiler.
 *
 * It loads modules, says `booted`, and waits for a job. Up to there everything is the same for every run, and the
 * machine may be saved and restored (nothing of the host is mounted yet: QEMU refuses to save a mounted 9p share).
 *
 * Channels are virtio-serial ports, by number (PORTS). The control port carries lines:
 *   to the host:   booted | clock SECONDS | time? | started | beat | exit CODE | failed TEXT
 *   to the agent:  SECONDS.NANOSECONDS (answer to time?) | signal NAME | size ROWS COLUMNS
 */

/** Number of each virtio-serial port: `/dev/vport0p<number>` inside. Port 0 is a terminal, `/dev/hvc0`. */
export const PORTS = { terminal: 0, job: 1, control: 2, stdin: 3, stdout: 4, stderr: 5 } as const;

/** Seconds between signs of life. */
export const BEAT_SECONDS = 5;

/** Between the two times that the agent says how long it has been up. */
export const CLOCK_SECONDS = 2;

/** Modules for the machine itself, for KVM, and what tests of virtual machines commonly want at hand. */
export const MODULES = [
  "virtio_pci",
  "virtio_console",
  "overlay",
  "9pnet_virtio",
  "9p",
  "tun",
  "vhost_net",
] as const;

export const AGENT = `#!/bin/sh
export PATH=/bin HOME=/root
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
while read -r module; do insmod "/modules/$module" || echo "agent: no module $module"; done </modules/order
hostname testbed
ip link set lo up
ulimit -n 65536

# The driver creates ports asynchronously.
while ! [ -c /dev/vport0p${PORTS.stderr} ]; do sleep 0.01; done
exec 3<>/dev/vport0p${PORTS.control}

fail() {
  echo "failed $*" >&3
  sleep 60
  poweroff -f
}

echo booted >&3
# Twice: whoever saves the machine looks whether its clock goes as fast as the host's.
uptime() { read -r up _ </proc/uptime && echo "clock $up" >&3; }
{ uptime; sleep ${CLOCK_SECONDS}; uptime; } &
# The port reads as empty until the host's side is known to be open.
while ! [ -s /run/job ]; do cat /dev/vport0p${PORTS.job} >/run/job; [ -s /run/job ] || sleep 0.01; done
. /run/job || fail "the job is not readable"

# --- the host's file system, read-only, under a writable layer in memory
mkdir -p /mnt/host /mnt/layer /mnt/root
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose hostroot /mnt/host ||
  fail "cannot mount the host's file system"
mount -t tmpfs -o mode=755,size=75% layer /mnt/layer
mkdir /mnt/layer/upper /mnt/layer/work
mount -t overlay -o lowerdir=/mnt/host,upperdir=/mnt/layer/upper,workdir=/mnt/layer/work overlay /mnt/root ||
  fail "cannot mount the writable layer"
cd /mnt/root
mkdir -p proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mount -t tmpfs -o mode=755 run run
mkdir -p run/lock run/user dev/pts dev/shm dev/mqueue dev/hugepages
chmod 1777 run/lock tmp
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t hugetlbfs hugetlbfs dev/hugepages
mount -t debugfs debugfs sys/kernel/debug
mount -t tracefs tracefs sys/kernel/tracing
mount -t cgroup2 cgroup2 sys/fs/cgroup
ln -sf /proc/self/fd dev/fd
ln -sf fd/0 dev/stdin
ln -sf fd/1 dev/stdout
ln -sf fd/2 dev/stderr
if [ -n "$V3M_OUT" ]; then
  mkdir -p ".$V3M_OUT"
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap out ".$V3M_OUT" ||
    fail "cannot mount the output directory"
fi

# --- this kernel's modules, for modprobe inside and for the kernel's own requests (which see the initramfs)
if [ -d ".$V3M_MODULES" ]; then
  mkdir -p lib/modules /lib/modules
  mount -o bind ".$V3M_MODULES" lib/modules
  mount -o bind ".$V3M_MODULES" /lib/modules
  echo /bin/modprobe >/proc/sys/kernel/modprobe
  # A host that is a container often lacks kmod.
  if ! [ -e sbin/modprobe ] && ! [ -e usr/sbin/modprobe ]; then
    cp /bin/busybox run/busybox
    mkdir -p usr/local/sbin
    for tool in modprobe lsmod insmod rmmod modinfo; do ln -s /run/busybox usr/local/sbin/$tool; done
  fi
fi

# The new tree becomes the root of the mount namespace, so that the command is not in a chroot (where the kernel
# forbids user namespaces and pivot_root). This shell keeps its own root, the initramfs, and stands in the new one.
mount -o move . /

echo 'time?' >&3
read -r now <&3
chroot . date -u -s "@$now" >/dev/null 2>&1 || date -u -s "@\${now%.*}" >/dev/null

# --- the command
mkdir sys/fs/cgroup/command
mkfifo /run/stdin /run/stdout /run/stderr

# Standard streams are pipes and not the ports themselves: a port can be opened only once, and ">/dev/stderr" is common.
# After the data comes the token, by which the host knows that the stream is complete.
if [ -n "$V3M_TERMINAL" ]; then
  stty -F /dev/hvc0 rows "$V3M_ROWS" cols "$V3M_COLUMNS"
else
  cat /dev/vport0p${PORTS.stdin} >/run/stdin &
  { cat; printf '\\000%s' "$V3M_TOKEN"; } </run/stdout >/dev/vport0p${PORTS.stdout} &
  stdout_pump=$!
  { cat; printf '\\000%s' "$V3M_TOKEN"; } </run/stderr >/dev/vport0p${PORTS.stderr} &
  stderr_pump=$!
fi

while sleep ${BEAT_SECONDS}; do echo beat >&3; done &

{
  while read -r word first second <&3; do
    case $word in
      signal)
        until [ -s /run/command.pid ]; do sleep 0.05; done
        kill -s "$first" -- "-$(cat /run/command.pid)" ;;
      size) stty -F /dev/hvc0 rows "$first" cols "$second" ;;
    esac
  done
  # The host's end is gone: so shall we be.
  poweroff -f
} &

# Runs in a subshell that becomes the command: leader of its own session, in its own control group.
become_command() {
  echo 0 >sys/fs/cgroup/command/cgroup.procs
  read -r pid rest </proc/self/stat
  echo "$pid" >/run/command.pid
  exec 3>&-
  v3m_command
}

echo started >&3
if [ -n "$V3M_TERMINAL" ]; then
  (become_command) </dev/hvc0 >/dev/hvc0 2>&1
else
  (become_command) </run/stdin >/run/stdout 2>/run/stderr
fi
status=$?

# What the command left running holds the streams open: end it, then wait until all output is on its way.
echo 1 >sys/fs/cgroup/command/cgroup.kill
if [ -n "$V3M_TERMINAL" ]; then
  printf '\\000%s' "$V3M_TOKEN" >/dev/hvc0
else
  wait $stdout_pump $stderr_pump
fi
[ -z "$V3M_OUT" ] || sync
echo "exit $status" >&3
# The host ends the machine now.
sleep 60
poweroff -f
`;
