"""The rows of the table: what is asked of each proxy, and what is taken from the answer."""

import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

from peers import BASE, CERTIFICATES, Trouble, home, limit, memory, sh, tree

SMALL = ["lockring", "nginx", "haproxy", "caddy"]
BULK = ["lockring", "nginx-buffered", "nginx-unbuffered", "haproxy", "haproxy-64k", "haproxy-256k", "caddy"]
ON_LOAD_CORE = ["taskset", "-c", "1"]
FLOOR = ["relay"]
VARIANTS = ["lockring", "lockring-rustls", "lockring-no-defer"]
TICK = os.sysconf("SC_CLK_TCK")


class Row:
    """One row. `main` is the figure by which proxies are compared, lower being better."""

    def __init__(self, key, title, main, unit, proxies, measure):
        self.key, self.title, self.main, self.unit, self.proxies, self.measure = key, title, main, unit, proxies, measure


def load(tools, words, seconds, watch, first=()):
    """One run of the load generator."""
    done = subprocess.run(
        [*ON_LOAD_CORE, *first, tools.load, "run", "--seconds", str(seconds), "--watch", str(watch), *map(str, words)],
        capture_output=True, text=True, timeout=seconds + 150,
    )
    if done.returncode != 0:
        raise Trouble(f"load {' '.join(map(str, words))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def per_request(found):
    count = max(found["requests"], 1)
    return shared(found, 1e6 / count, count / found["seconds"])


def per_byte(found):
    count = max(found["received"] + found["sent"], 1)
    return shared(found, 1e9 / count, found["requests"] / found["seconds"]) | {
        "MB_per_s": count / found["seconds"] / 1e6
    }


def shared(found, scale, rate):
    return {
        "cpu": (found["user"] + found["system"]) * scale,
        "user": found["user"] * scale,
        "system": found["system"] * scale,
        "rps": rate,
        "p50": found["p50"],
        "p99": found["p99"],
        "p999": found["p999"],
        "max": found["max"],
        "reconnects": found["reconnects"],
        "retries": found["retries"],
        "refused": found["refused"],
    }


def begin(proxy, tools):
    """Starts a proxy; the relay is part of the load generator."""
    proxy.load = tools.load
    proxy.start()


def simple(words, figures, least=0.0):
    """A row of the load generator alone; `least` is the shortest window that tells something."""

    def measure(proxy, tools):
        begin(proxy, tools)
        seconds = max(tools.seconds, least)
        found = load(tools, ["--port", proxy.port, *proxy.words, *words], seconds, proxy.process.pid)
        if "resumed" in words and found["resumed"] < 0.9 * found["requests"]:
            raise Trouble(f"{proxy.name}: only {found['resumed']} of {found['requests']} handshakes were resumed")
        return figures(found)

    return measure


def cpu(pid):
    """CPU seconds in user space and in the kernel of `pid`, its descendants and its dead children."""
    user = system = 0
    for one in tree(pid):
        try:
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / TICK, system / TICK


def wrk(connections):
    """The same as a row of ours, by a load generator that others know; the handshakes are in its figure."""

    def measure(proxy, tools):
        proxy.start()
        environment = os.environ | {"OPENSSL_CONF": str(tools.here / "wrk-openssl.cnf")}
        before = cpu(proxy.process.pid)
        words = ["wrk", "-t1", f"-c{connections}", f"-d{max(2, round(tools.seconds))}s", "-s", tools.here / "wrk.lua",
                 f"https://localhost:{proxy.port}/1024"]
        done = subprocess.run([*ON_LOAD_CORE, *words], capture_output=True, text=True, env=environment, timeout=120)
        after = cpu(proxy.process.pid)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise Trouble(f"wrk: {done.stdout[-500:]}{done.stderr[-500:]}")
        found = json.loads(lines[-1]) | {"user": after[0] - before[0], "system": after[1] - before[1]}
        return per_request(found)

    return measure


def idle(connections):
    """Memory of connections that have had one answer and wait."""

    def measure(proxy, tools):
        proxy.start()
        pid = proxy.process.pid
        # What a first request makes once is no connection's own.
        load(tools, ["--port", proxy.port, "--connections", 8, "--warm", 0], 0.2, pid)
        before = memory(pid)
        holder = hold(tools, proxy.port, connections)
        time.sleep(2)
        held = memory(pid)
        holder.communicate("", timeout=60)
        return {"memory": (held - before) / connections, "base_KiB": before}

    return measure


def hold(tools, port, connections):
    """Connections that have had one answer and wait until their standard input ends."""
    holder = subprocess.Popen(
        [*ON_LOAD_CORE, tools.load, "run", "--idle", "--port", str(port), "--connections", str(connections)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    if not holder.stdout.readline():
        raise Trouble(f"load --idle: {holder.stderr.read().strip()}")
    return holder


def idle_active(few, many):
    """An active request beside few and beside many connections that wait."""

    def measure(proxy, tools):
        found = []
        for connections in (few, many):
            proxy.start()
            holder = hold(tools, proxy.port, connections)
            # Those that wait are at rest by then.
            time.sleep(2)
            found.append(per_request(load(tools, ["--port", proxy.port, "--connections", 64], tools.seconds, proxy.process.pid)))
            holder.communicate("", timeout=60)
            if connections == few:
                proxy.stop()
        calm, crowded = found
        return crowded | {"calm_cpu": calm["cpu"], "more": crowded["cpu"] / calm["cpu"]}

    return measure


def flooded(rate, connections):
    """Latency of requests while strangers do full handshakes as fast as they can, and without them."""

    def measure(proxy, tools):
        proxy.start()
        seconds = max(tools.seconds, 3)
        words = ["--port", proxy.port, "--rate", rate, "--connections", connections]
        calm = load(tools, words, seconds, proxy.process.pid)
        flood = subprocess.Popen(
            [*ON_LOAD_CORE, "nice", "-n", "19", tools.load, "run", "--port", str(proxy.port), "--handshakes", "full",
             "--connections", "64", "--warm", "0.2", "--seconds", str(seconds + 3)],
            stdout=subprocess.PIPE, text=True,
        )
        time.sleep(1)
        # What measures must not wait for what floods: they share a core.
        found = load(tools, words, seconds, proxy.process.pid, first=["nice", "-n", "-20"])
        made = json.loads(flood.communicate(timeout=120)[0])
        return per_request(found) | {
            "flood_p50": found["p50"], "flood_p99": found["p99"], "calm_p50": calm["p50"], "calm_p99": calm["p99"],
            "more": found["p99"] / calm["p99"], "handshakes": made["requests"] / made["seconds"],
        }

    return measure


def served(port):
    """The certificate that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True)).strip()
    except OSError:
        return None


def swapped(rate, every):
    """Open loop while the certificate is another one every few seconds."""

    def measure(proxy, tools):
        if not proxy.can_swap():
            return None
        use_certificate(0)
        proxy.start()
        stop = threading.Event()
        swaps, late = [], []

        def swapper():
            while not stop.wait(every):
                swaps.append(time.monotonic())
                use_certificate(len(swaps) % 2)
                proxy.swap(home("tls.pem"))
                wanted = home("cert.pem").read_text().strip()
                # Late, if it is not there before the next one is due.
                while served(proxy.port) != wanted:
                    if time.monotonic() > swaps[-1] + every:
                        late.append(every)
                        break
                    time.sleep(0.02)
                else:
                    late.append(time.monotonic() - swaps[-1])

        thread = threading.Thread(target=swapper)
        thread.start()
        try:
            found = load(tools, ["--port", proxy.port, "--rate", rate], max(tools.seconds, 3 * every + 1), proxy.process.pid)
        finally:
            stop.set()
            thread.join()
            use_certificate(0)
        # Every other swap is back to the first certificate, which one that notices nothing serves as well.
        if 2 * sum(one >= every for one in late) >= len(late):
            raise Trouble(f"{proxy.name} does not serve new certificates within {every} s")
        return per_request(found) | {"swaps": len(swaps), "late": 1000 * max(late)}

    return measure


def use_certificate(which):
    """Puts certificate 0 or 1 where every proxy reads it."""
    for name in ("cert.pem", "key.pem", "tls.pem"):
        temporary = home(name + ".new")
        shutil.copy(home(f"{which}-{name}"), temporary)
        temporary.rename(home(name))


def make_certificates(tools):
    """Two certificates for localhost, and many for other names."""
    for which in (0, 1):
        cert, key = home(f"{which}-cert.pem"), home(f"{which}-key.pem")
        if not cert.exists() or subprocess.run(["openssl", "x509", "-checkend", "86400", "-noout", "-in", cert],
                                               capture_output=True).returncode:
            sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
               "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert)
        home(f"{which}-tls.pem").write_text(cert.read_text() + key.read_text())
    use_certificate(0)


def make_many(tools):
    """The certificates of the start-up row: bundles, and the keys apart for those who read two files."""
    last = f"site-{CERTIFICATES - 1}.bulk.test"
    if not home(f"many-keys/{last}.key").exists():
        sh(tools.load, "certs", "--count", str(CERTIFICATES), "--directory", home("many"), "--bundle")
        home("many-keys").mkdir(exist_ok=True)
        for bundle in home("many").iterdir():
            text = bundle.read_text()
            home(f"many-keys/{bundle.stem}.key").write_text(text[text.index("-----BEGIN PRIVATE"):])


def start_many(proxy, tools):
    """From exec to the first handshake with the last of many names, and the memory then."""
    make_many(tools)
    name = f"site-{CERTIFICATES - 1}.bulk.test"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.monotonic()
    proxy.start(many=True)
    while True:
        waited = time.monotonic() - began
        if waited > 120 or proxy.process.poll() is not None:
            raise Trouble(f"{proxy.name} did not start with {CERTIFICATES} certificates: "
                          f"{(BASE / (proxy.name + '.log')).read_text()[-800:]}")
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), 5) as plain:
                with context.wrap_socket(plain, server_hostname=name) as tls:
                    if name.encode() in tls.getpeercert(binary_form=True):
                        break
        except OSError:
            pass
        time.sleep(0.002)
    user, system = cpu(proxy.process.pid)
    return {"start": (time.monotonic() - began) * 1000, "start_cpu": (user + system) * 1000,
            "start_memory": memory(proxy.process.pid) / 1024}


def all_rows():
    most = min(50_000, limit() // 2 - 500)
    us, ns = "µs/request", "ns/byte"
    rows = [
        Row("keepalive-8", "keep-alive 1 KiB, 8 connections", "cpu", us, SMALL + FLOOR, simple(["--connections", 8], per_request)),
        Row("keepalive-64", "keep-alive 1 KiB, 64 connections", "cpu", us, SMALL + FLOOR, simple(["--connections", 64], per_request)),
        Row("keepalive-512", "keep-alive 1 KiB, 512 connections", "cpu", us, SMALL + FLOOR, simple(["--connections", 512], per_request)),
        Row("wrk-64", "the same by wrk, 64 connections", "cpu", us, SMALL, wrk(64)),
        Row("full", "full handshake + one request", "cpu", us, SMALL,
            simple(["--handshakes", "full", "--connections", 16], per_request)),
        Row("resumed", "resumed handshake + one request", "cpu", us, SMALL,
            simple(["--handshakes", "resumed", "--connections", 16], per_request)),
        Row("download-1m", "download 1 MiB, 16 connections", "cpu", ns, BULK + FLOOR,
            simple(["--path", "/1048576", "--connections", 16], per_byte)),
        Row("download-100m", "download 100 MiB, 4 connections", "cpu", ns, BULK + FLOOR,
            simple(["--path", "/104857600", "--connections", 4], per_byte)),
        Row("upload-100m", "upload 100 MiB, 4 connections", "cpu", ns, BULK + FLOOR,
            simple(["--path", "/0", "--upload", 104857600, "--connections", 4], per_byte)),
        Row("rate-4000", "4,000 requests/s, 64 connections", "cpu", us, SMALL,
            simple(["--rate", 4000], per_request, least=2)),
        Row("rate-2000", "2,000 requests/s, 64 connections", "cpu", us, SMALL,
            simple(["--rate", 2000], per_request, least=2)),
        Row("swaps-2000", "the same, a new certificate every 2 s", "p999", "µs p99.9", SMALL + ["haproxy-reload"], swapped(2000, 2)),
        Row("flood-2000", "2,000 requests/s, 16 connections, in a flood of handshakes", "p99", "µs p99", SMALL, flooded(2000, 16)),
        Row("idle-active", f"keep-alive, 64 connections beside {most:,} that wait", "cpu", us, SMALL, idle_active(64, most)),
        Row("variants-64", "our own variants: keep-alive, 64 connections", "cpu", us, VARIANTS, simple(["--connections", 64], per_request)),
        Row("variants-download", "our own variants: download 1 MiB", "cpu", ns, VARIANTS,
            simple(["--path", "/1048576", "--connections", 16], per_byte)),
        Row("idle-5000", "memory of an idle connection, 5,000", "memory", "KiB", SMALL, idle(5000)),
        Row("start-10000", "start with 10,000 certificates", "start", "ms", SMALL, start_many),
    ]
    if most > 7500:
        rows.insert(-1, Row("idle-most", f"memory of an idle connection, {most:,}", "memory", "KiB", SMALL, idle(most)))
    return rows
