"""The proxies: where the peers come from, and how each is configured, started and told of a new certificate.

Each is tuned as its experts would: one worker on core 0, connections to the origin kept open, no access
log, TLS 1.3 only, X25519, session tickets on. The cipher (AES-128-GCM) is the client's only offer.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

# Where the peers run; everything a peer reads lies in HOME, which is the same path with and without ROOT.
BASE = pathlib.Path(os.environ.get("LOCKRING_COMPARE_DIR", "/var/cache/lockring-compare"))
SUITE = os.environ.get("LOCKRING_COMPARE_SUITE", "sid")
ROOT = BASE / "root"
HOME = "/compare"
CERTIFICATES = 10_000

ORIGIN_PORT = 19_000


class Trouble(Exception):
    """What stops the comparison, in words for whoever started it."""


def sh(*words, **more):
    """Runs a command and gives its output; Trouble if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, **more)
    except OSError as error:
        raise Trouble(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        raise Trouble(f"{' '.join(map(str, words))}: exit {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def install_tools():
    """The host's tools; apt is asked only when one is missing."""
    needed = {"wrk": "wrk", "debootstrap": "debootstrap", "openssl": "openssl", "taskset": "util-linux"}
    missing = [package for command, package in needed.items() if not shutil.which(command)]
    if missing:
        sh("apt-get", "update", "-qq")
        sh("apt-get", "install", "-y", "-qq", *missing)


def install_peers(fresh):
    """A tree of Debian's newest suite with the peers in it: an older release's OpenSSL would flatter us."""
    if os.geteuid() != 0:
        raise Trouble("debootstrap and chroot need root")
    if fresh and ROOT.exists():
        shutil.rmtree(ROOT)
    if not (ROOT / "usr/sbin/nginx").exists():
        listed = sh("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages")
        mirrors = [line.split()[1] for line in listed.splitlines() if line.startswith("Debian ")]
        if not mirrors:
            raise Trouble("apt knows no Debian mirror, so debootstrap has nowhere to fetch the peers from")
        BASE.mkdir(parents=True, exist_ok=True)
        unfinished = BASE / "root.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        print(f"making a Debian {SUITE} tree in {ROOT}: a minute or two", flush=True)
        sh("debootstrap", "--variant=minbase", "--include=nginx-light,haproxy,caddy", SUITE, unfinished, mirrors[0])
        unfinished.rename(ROOT)
    (ROOT / HOME[1:]).mkdir(exist_ok=True)


def versions():
    """Version and TLS library of each peer."""
    inside = lambda *words: sh("chroot", ROOT, *words).splitlines()
    pick = lambda lines, *marks: ", ".join(line.strip() for line in lines if any(mark in line for mark in marks))
    return {
        "nginx": pick(inside("nginx", "-V"), "nginx version", "built with"),
        "haproxy": pick(inside("haproxy", "-vv"), "HAProxy version", "Running on SSL"),
        "caddy": " ".join(inside("caddy", "version")) + ", " + pick(inside("caddy", "build-info"), "go\t").replace("\t", " "),
        "debian": (ROOT / "etc/debian_version").read_text().strip() + f" ({SUITE})",
    }


def tree(pid):
    """`pid` and its living descendants."""
    pids = [pid]
    for parent in pids:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(word) for word in task.read_text().split()]
            except OSError:
                pass
    return pids


def memory(pid):
    """KiB of anonymous memory that `pid` and its descendants have in use."""
    total = 0
    for one in tree(pid):
        try:
            status = pathlib.Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return total


def home(name):
    """The host's path of a file that peers see as HOME/name."""
    return ROOT / HOME[1:] / name


class Proxy:
    """One proxy in one tuning. `many` says: with CERTIFICATES sites instead of one."""

    family = name = ""
    port = 0
    # Words for the load, and what is added to the environment.
    words = []
    environment = {}

    def configure(self, many):
        """Writes the configuration; gives the words that start the proxy."""
        raise NotImplementedError

    def start(self, many=False):
        words = self.configure(many)
        log = open(BASE / f"{self.name}.log", "wb")
        environment = os.environ | {"GOMAXPROCS": "1", "HOME": HOME, "XDG_DATA_HOME": HOME, "XDG_CONFIG_HOME": HOME} | self.environment
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        if not many:
            self.await_port(10)

    def await_port(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        self.stop()
        raise Trouble(f"{self.name} did not start: {(BASE / (self.name + '.log')).read_text()[-1500:]}")

    def stop(self):
        if self.process.poll() is not None:
            return
        # Workers of a master that had to be killed would keep the port.
        pids = tree(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()

    def swap(self, bundle):
        """Serves the certificate and key of the file `bundle`, already in place, from now on."""
        raise NotImplementedError

    def can_swap(self):
        return True

    def can_many(self):
        return True


class Nginx(Proxy):
    family = "nginx"

    def __init__(self, name, port, buffers):
        self.name, self.port, self.buffers = name, port, buffers

    def configure(self, many):
        site = (
            "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; "
            "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; "
            "proxy_set_header X-Forwarded-Proto $scheme;"
        )
        names = [(f"site-{i}.bulk.test", f"{HOME}/many/site-{i}.bulk.test.pem") for i in range(CERTIFICATES)]
        servers = "\n".join(
            f"server {{ listen 127.0.0.1:{self.port} ssl reuseport backlog=4096; server_name {name}; "
            f"ssl_certificate {pem}; ssl_certificate_key {pem}; location / {{ {site} }} }}"
            for name, pem in (names if many else [("localhost", f"{HOME}/tls.pem")])
        )
        # Only one server of a port may name the socket's options.
        first, *rest = servers.splitlines()
        servers = "\n".join([first] + [line.replace(" reuseport backlog=4096", "") for line in rest])
        home(f"{self.name}.conf").write_text(f"""
daemon off; user www-data; pid {HOME}/{self.name}.pid; error_log {HOME}/{self.name}-error.log crit;
worker_processes 1; worker_cpu_affinity 1; worker_rlimit_nofile {limit()};
events {{ worker_connections {limit() - 100}; multi_accept on; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on; types {{ }}
  keepalive_timeout 1h; keepalive_requests 1000000000; client_max_body_size 0;
  server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_tickets on; ssl_session_cache off;
  proxy_request_buffering off; proxy_max_temp_file_size 0; {self.buffers}
  upstream origin {{ server 127.0.0.1:{ORIGIN_PORT}; keepalive 2048; keepalive_requests 1000000000; keepalive_timeout 1h; }}
  {servers}
}}
""")
        return ["chroot", ROOT, "nginx", "-c", f"{HOME}/{self.name}.conf", "-e", f"{HOME}/{self.name}-error.log"]

    def swap(self, bundle):
        self.process.send_signal(signal.SIGHUP)


class Haproxy(Proxy):
    family = "haproxy"

    def __init__(self, name, port, bufsize):
        self.name, self.port, self.bufsize = name, port, bufsize

    def configure(self, many):
        certificate = f"{HOME}/many/" if many else f"{HOME}/tls.pem"
        # A connection may have one to the origin beside it.
        home(f"{self.name}.cfg").write_text(f"""
global
  nbthread 1
  cpu-map 1/1 0
  maxconn {(limit() - 100) // 2}
  stats socket {HOME}/{self.name}.sock level admin
  tune.bufsize {self.bufsize}
  tune.ssl.cachesize 0
  tune.listener.default-shards by-process
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-curves X25519
defaults
  mode http
  option http-keep-alive
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
frontend f
  bind 127.0.0.1:{self.port} ssl crt {certificate} alpn http/1.1 backlog 4096
  http-request set-header X-Forwarded-Proto https
  default_backend b
backend b
  server o 127.0.0.1:{ORIGIN_PORT} pool-max-conn -1 pool-purge-delay 1h
""")
        return ["chroot", ROOT, "haproxy", "-q", "-db", "-f", f"{HOME}/{self.name}.cfg"]

    def swap(self, bundle):
        # The run-time interface, which an expert prefers to a reload: no new process.
        path = f"{HOME}/tls.pem"
        for order in (f"set ssl cert {path} <<\n{pathlib.Path(bundle).read_text().strip()}\n\n", f"commit ssl cert {path}\n"):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(home(f"{self.name}.sock")))
                line.sendall(order.encode())
                line.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := line.recv(4096):
                    answer += piece
            if b"updated" not in answer and b"created" not in answer and b"Success" not in answer:
                raise Trouble(f"{self.name}: {answer.decode()}")


class HaproxyReload(Haproxy):
    """HAProxy under its master, told of a new certificate by a reload: a new process takes over."""

    def configure(self, many):
        words = super().configure(many)
        return [word if word != "-db" else "-W" for word in words]

    def swap(self, bundle):
        self.process.send_signal(signal.SIGUSR2)


class Caddy(Proxy):
    family = "caddy"

    def __init__(self, name, port):
        self.name, self.port = name, port

    def configure(self, many):
        where = f"https://*.bulk.test:{self.port}" if many else f"https://localhost:{self.port}"
        tls = f"tls {{\n load {HOME}/many\n protocols tls1.3\n curves x25519\n }}" if many else (
            f"tls {HOME}/cert.pem {HOME}/key.pem {{\n protocols tls1.3\n curves x25519\n }}"
        )
        home(f"{self.name}.caddy").write_text(f"""
{{
  admin unix/{HOME}/{self.name}.sock
  auto_https off
  persist_config off
  log default {{
    output discard
  }}
  servers {{
    protocols h1
    timeouts {{
      idle 1h
    }}
  }}
}}
{where} {{
  bind 127.0.0.1
  {tls}
  reverse_proxy 127.0.0.1:{ORIGIN_PORT} {{
    transport http {{
      keepalive 1h
      keepalive_idle_conns 4096
      keepalive_idle_conns_per_host 4096
      compression off
    }}
  }}
}}
""")
        return ["chroot", ROOT, "caddy", "run", "--config", f"{HOME}/{self.name}.caddy", "--adapter", "caddyfile"]

    def swap(self, bundle):
        sh("taskset", "-c", "1", "chroot", ROOT, "caddy", "reload", "--force", "--adapter", "caddyfile", "--config",
           f"{HOME}/{self.name}.caddy", "--address", f"unix/{HOME}/{self.name}.sock")


class Lockring(Proxy):
    family = "lockring"

    def __init__(self, name, port, binary, records="own", environment=None):
        self.name, self.port, self.binary, self.records = name, port, binary, records
        self.environment = environment or {}

    def configure(self, many):
        state = BASE / "lockring-state"
        state.mkdir(exist_ok=True, mode=0o700)
        state.chmod(0o700)
        pairs = [(f"site-{i}.bulk.test", home(f"many/site-{i}.bulk.test.pem"), home(f"many-keys/site-{i}.bulk.test.key"))
                 for i in range(CERTIFICATES)]
        sites = "\n".join(
            f'[sites."{name}"]\nto = "127.0.0.1:{ORIGIN_PORT}"\ntls = {{ cert = "{cert}", key = "{key}" }}\n'
            for name, cert, key in (pairs if many else [("localhost", home("cert.pem"), home("key.pem"))])
        )
        (BASE / "lockring.toml").write_text(f"""
[server]
https = ["127.0.0.1:{self.port}"]
http = []
workers = "0"
state = "{state}"
admin = "{BASE}/lockring.sock"
[log]
access = "off"
[tls]
records = "{self.records}"
[limits]
pool_idle = 4096
[timeouts]
idle = "1h"
{sites}
""")
        return [self.binary, "run", "-c", BASE / "lockring.toml"]

    def swap(self, bundle):
        # Its files are watched: that they are others is all it needs.
        pass


class Relay(Proxy):
    """No proxy, but the floor below all: bytes pass from one socket to another, without TLS."""

    family = "relay"
    words = ["--plain"]

    def __init__(self, name, port):
        self.name, self.port = name, port

    def configure(self, many):
        return [self.load, "relay", "--port", str(self.port), "--to", str(ORIGIN_PORT)]


def limit():
    """Descriptors that a process may have."""
    import resource

    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 200_000)


def no_defer_taskrun(here):
    """What makes the kernel seem older than DEFER_TASKRUN, as environment."""
    library = BASE / "no_defer_taskrun.so"
    sh("cc", "-shared", "-fPIC", "-O1", "-o", library, here / "no_defer_taskrun.c", "-ldl")
    return {"LD_PRELOAD": str(library)}


def all_proxies(binary):
    """Every proxy and tuning by name; ports differ so that a slow end of one does not stop the next."""
    made = [
        Lockring("lockring", 18_440, binary),
        Nginx("nginx", 18_441, "proxy_buffer_size 4k; proxy_buffers 8 16k; ssl_buffer_size 4k;"),
        Nginx("nginx-buffered", 18_442, "proxy_buffer_size 16k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k; "
              "ssl_buffer_size 16k; client_body_buffer_size 128k;"),
        Nginx("nginx-unbuffered", 18_443, "proxy_buffering off; proxy_buffer_size 256k; proxy_buffers 4 256k; ssl_buffer_size 16k; "
              "client_body_buffer_size 256k;"),
        Haproxy("haproxy", 18_444, 16_384),
        Haproxy("haproxy-64k", 18_445, 65_536),
        # Larger than its manual advises, but what our own buffers for long bodies are.
        Haproxy("haproxy-256k", 18_446, 262_144),
        Caddy("caddy", 18_447),
        HaproxyReload("haproxy-reload", 18_448, 16_384),
        Relay("relay", 18_449),
        Lockring("lockring-rustls", 18_450, binary, records="rustls"),
        Lockring("lockring-no-defer", 18_451, binary, environment=no_defer_taskrun(pathlib.Path(__file__).resolve().parent)),
    ]
    return {proxy.name: proxy for proxy in made}
