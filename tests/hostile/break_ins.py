"""Row 85: what an attacker tries who already runs code of his own in the process that reads. Every attempt is denied.

Each file is a piece of Python that the cage runs as if a reader had been taken over; CANARY and PORT are put in.
"""

from tests.hostile.interface import DENIED, Kind, row

PRELUDE = "import ctypes, mmap, os, pathlib, resource, shutil, signal, socket, subprocess, sys\n"
CALL = """
libc = ctypes.CDLL(None, use_errno=True)
def call(x86, arm, *arguments):
    number = x86 if os.uname().machine == 'x86_64' else arm
    if libc.syscall(*map(ctypes.c_long, (number, *arguments))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
"""


def code(*lines: str) -> list[bytes]:
    return [(PRELUDE + line).encode() for line in lines]


@row("85a", Kind.CODE, DENIED)
def reads_elsewhere() -> list[bytes]:
    """Reads a secret, the accounts, the host's name, other processes, the supervisor's environment and memory."""
    return code(
        "pathlib.Path(CANARY).read_text()", "open('/etc/passwd').read()",
        "open('/etc/hostname').read()", "os.listdir('/proc')",
        "open(f'/proc/{os.getppid()}/environ').read()", "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
        "os.listdir('/')", "os.listdir('/home')", "open('/dev/kmsg').read(1)", "open('/etc/shadow').read()",
        "os.listdir('..')", "open('/proc/self/root/etc/passwd').read()",
    )  # fmt: skip


@row("85b", Kind.CODE, DENIED)
def writes_elsewhere() -> list[bytes]:
    """Writes, empties, renames, removes, links, and changes mode, owner, times and attributes of files outside."""
    return code(
        "open(CANARY, 'a').write('x')", "os.truncate(CANARY, 0)", "os.rename(CANARY, 'mine')", "os.remove(CANARY)",
        "os.link(CANARY, 'mine')", "os.symlink(CANARY, 'mine')", "os.chmod(CANARY, 0o777)", "os.chown(CANARY, 1, 1)",
        "os.utime(CANARY, (0, 0))", "os.setxattr(CANARY, 'user.x', b'x')", "os.mkdir(CANARY + '.d')",
        "open('/tmp/cage-was-here', 'w')", "open('/dev/shm/cage-was-here', 'w')", "os.mkfifo('pipe')",
        "os.mknod('device', 0o60600, 0x0700)", "open('/proc/self/oom_score_adj', 'w').write('0')",
        "open('/proc/sys/kernel/hostname', 'w').write('x')",
    )  # fmt: skip


@row("85c", Kind.CODE, DENIED)
def calls_home() -> list[bytes]:
    """Opens sockets of every kind, resolves a name, listens."""
    return code(
        "socket.create_connection(('127.0.0.1', PORT))", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6)", "socket.socket(socket.AF_UNIX)", "socket.socket(socket.AF_NETLINK)",
        "socket.socketpair()", "socket.create_server(('127.0.0.1', 0))",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_ALG)", "socket.socket(socket.AF_VSOCK)",
    )  # fmt: skip


@row("85d", Kind.CODE, DENIED)
def starts_programs() -> list[bytes]:
    """Forks, spawns, runs a shell, runs a program of its own, runs one from memory."""
    return code(
        "os.fork()", "subprocess.run(['true'])", "os.execv('/bin/sh', ['sh'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "shutil.copy(os.path.realpath(sys.executable), 'program')\nos.chmod('program', 0o700)",
        "os.memfd_create('x')", CALL + "call(57, 220, 17)",
        CALL + "call(322, 281, 0, 0, 0, 0, 0x1000)",
    )  # fmt: skip


@row("85e", Kind.CODE, DENIED)
def touches_other_processes() -> list[bytes]:
    """Signals, stops, traces, limits and reprioritises the supervisor; asks a file to signal it."""
    return code(
        "os.kill(os.getppid(), signal.SIGTERM)", "os.kill(-1, 0)", "os.killpg(0, 0)", "os.kill(1, 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import fcntl\nfcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())", "os.pidfd_open(os.getppid())",
        CALL + "call(101, 117, 16, os.getppid(), 0, 0)",
        CALL + "call(310, 270, os.getppid(), 0, 0, 0, 0, 0)",
    )  # fmt: skip


@row("85f", Kind.CODE, DENIED)
def becomes_more() -> list[bytes]:
    """Changes user, root folder, namespaces and mounts; loads programs into the kernel; raises its own limits."""
    calls = (
        (272, 97, 0x10000000),
        (165, 40, 0),
        (321, 280, 0),
        (425, 425, 1),
        (323, 282, 0),
        (250, 219, 0),
        (298, 241, 0),
    )
    return code(
        "os.setuid(12345)", "os.setgid(12345)", "os.setgroups([0])", "os.chroot('.')",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (99999, 99999))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
        *(CALL + f"call({x86}, {arm}, {argument}, 0, 0, 0, 0)" for x86, arm, argument in calls),
    )  # fmt: skip


@row("85g", Kind.CODE, DENIED)
def takes_too_much() -> list[bytes]:
    """Memory, descriptors, a file beyond its limit, ten thousand threads' worth of stacks."""
    return code(
        "bytearray(1 << 40)", "mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE)",
        "files = [os.dup(0) for _ in range(100_000)]", "os.truncate(os.open('x', os.O_RDWR | os.O_CREAT), 1 << 50)",
        "maps = [mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE) for _ in range(10_000)]",
    )  # fmt: skip
