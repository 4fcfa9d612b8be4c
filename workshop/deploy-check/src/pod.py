"""Runs what deploy/overlays/laptop renders to in pods of podman, with the kubelet's probes, signals and limits. The
images are the last stages of the Containerfiles, on programs of this machine. It prints SKIPPED where podman cannot.

Arguments: a folder, Redis' port, Postgres' URL and process, the programs spin (or runner) and migrator."""
import base64
import contextlib
import copy
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

import yaml

folder, redis, database, postmaster, spin, migrator = sys.argv[1:]
folder = pathlib.Path(folder)
# Its path must be short.
run_folder = tempfile.mkdtemp(prefix="pods-")
ORDER = json.dumps({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]}).encode()
HEAD = b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEAD += b"Content-Length: %d\r\n" % len(ORDER)
# The soft limit of open files that pods begin with.
FILES = 1024


def start_podman(*arguments):
    """Starts podman with a storage of its own, so that nothing is left on the machine."""
    command = ["podman", "--root", folder / "storage", "--runroot", run_folder, *arguments]
    environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def podman(*arguments, check=True):
    """Status, output and errors of podman."""
    process = start_podman(*arguments)
    stdout, stderr = process.communicate()
    assert process.returncode == 0 or not check, f"podman {arguments[0]}: {stderr.strip()}"
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def image(name, containerfile, *programs):
    """Makes the image of a Containerfile's last stage, with programs and their libraries in place of its base."""
    files, changes = {}, []
    last = pathlib.Path(containerfile).read_text().rsplit("\nFROM ", 1)[1]
    for instruction, rest in re.findall(r"^(\w+) (.*)$", last, re.MULTILINE):
        if instruction == "COPY":
            source, target = rest.split()[-2:]
            files[target] = source.removeprefix("/build/")
        elif instruction == "ENTRYPOINT" and "/bin/sh" in programs:
            limited = ["/bin/sh", "-c", f'ulimit -S -n {FILES}; exec "$0" "$@"', *json.loads(rest)]
            changes += ["--change", "ENTRYPOINT " + json.dumps(limited)]
        elif instruction in ("ENV", "USER", "ENTRYPOINT", "CMD"):
            changes += ["--change", f"{instruction} {rest}"]
    for program in programs:
        files[program if program.startswith("/bin/") else f"/usr/local/bin/{pathlib.Path(program).name}"] = program
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        files |= {library: library for library in re.findall(r"(/\S+) \(0x", libraries)}
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for target, source in files.items():
            entry = tar.gettarinfo(os.path.realpath(source), target)
            entry.mode = 0o755
            with open(source, "rb") as content:
                tar.addfile(entry, content)
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
    podman("import", *changes, folder / f"{name}.tar", f"{name}:dev")


def configure(runtime):
    """Limits that need no right to raise those of this process."""
    limits = 'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]'
    (folder / "containers.conf").write_text(f'[containers]\n{limits}\n[engine]\nruntime = "{runtime}"\n')


def can_run():
    """Whether podman can start a pod with a limit of memory. Of its two runtimes, each lacks some kind of cgroups."""
    (folder / "Containerfile").write_text("\nFROM scratch\nUSER 65532\n")
    for runtime in ("crun", "runc"):
        configure(runtime)
        try:
            image("probe", folder / "Containerfile", "/bin/sleep")
            podman("pod", "create", "--network=host", "--name=probe", "--replace")
            podman("run", "--rm", "--pod=probe", "--memory=64m", "probe:dev", "/bin/sleep", "0")
            return True
        except AssertionError as error:
            why = str(error).splitlines()[-1]
    print("SKIPPED pods in podman:", why, file=sys.stderr)
    return False


def pods(port):
    """The pods of the overlay by name: Secrets inlined, servers of this machine."""
    kubectl = pathlib.Path(sys.executable).with_name("kubectl")
    rendered = subprocess.run([kubectl, "kustomize", "deploy/overlays/laptop"], check=True, stdout=subprocess.PIPE)
    objects = list(yaml.safe_load_all(rendered.stdout))
    data = [entry for o in objects if o["kind"] == "Secret" for entry in o["data"].items()]
    secret = {name: base64.b64decode(value).decode() for name, value in data}
    places = {
        "orders-postgres:5432": re.search(r"127[^/]*", database).group(),
        "orders-valkey:6379": f"127.0.0.1:{redis}",
        "0.0.0.0:8080": f"127.0.0.1:{port}",
    }
    for o in objects:
        if o["kind"] not in ("Deployment", "Job") or not o["metadata"]["name"] in ("orders", "orders-migrate"):
            continue
        spec = o["spec"]["template"]["spec"]
        for entry in spec["containers"][0]["env"]:
            source = entry.pop("valueFrom", None)
            value = secret[source["secretKeyRef"]["key"]] if source else entry["value"]
            value = re.sub(r"postgres://[^?]*@[^?]*", database, value)
            for server, here in places.items():
                value = value.replace(server, here)
            entry["value"] = value
        spec |= {"restartPolicy": "Never", "volumes": [v for v in spec["volumes"] if "secret" not in v]}
        container = spec["containers"][0]
        known = {v["name"] for v in spec["volumes"]}
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] in known]
        name = o["metadata"]["name"]
        yield name, spec, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def play(name, pod):
    pod = copy.deepcopy(pod)
    # It would map ports, which the host's network needs not, and probe with a program that the image has not.
    for member in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
        pod["spec"]["containers"][0].pop(member, None)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(pod))
    podman("kube", "play", "--network=host", file)
    return f"{name}-{pod['spec']['containers'][0]['name']}"


def ask(method, path, key=None, timeout=20):
    """A response: status, fields, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    fields = {"Idempotency-Key": key, "Content-Type": "application/json"} if key else {}
    connection.request(method, path, ORDER if key else None, fields)
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


def order(key):
    status, fields, body = ask("POST", "/api/v1/orders", key)
    return status, fields.get("idempotent-replayed"), json.loads(body).get("orderId"), fields.get("retry-after")


def probe(container, name):
    get = container[name]["httpGet"]
    return ask("GET", get["path"], timeout=container[name].get("timeoutSeconds", 1))[0]


def connections(count, first):
    """Clients that have sent something."""
    opened = []
    for n in range(count):
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=60))
        opened[-1].sendall(first(n))
    return opened


def serves(name, what):
    state = json.loads(podman("inspect", name).stdout)[0]["State"]
    assert state["Running"], f"{what}: the pod has ended, code {state['ExitCode']}, out of memory: {state['OOMKilled']}"


def walk(container, grace, name):
    """What the pod must do, from its start to its end."""
    start = container["startupProbe"]
    for _ in range(start["failureThreshold"]):
        time.sleep(start["periodSeconds"])
        serves(name, "start")
        with contextlib.suppress(OSError):
            if probe(container, "startupProbe") == 200:
                break
    assert probe(container, "readinessProbe") == 200, "readiness"
    status, replayed, order_id, _ = order("first")
    assert (status, replayed) == (201, None), status
    assert order("first")[:3] == (201, "true", order_id), "replay"

    inspected = json.loads(podman("inspect", name).stdout)[0]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert inspected["HostConfig"]["Memory"] == limit, "limit of memory"
    status = pathlib.Path(f"/proc/{inspected['State']['Pid']}/status").read_text()
    process = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    rights = process["Uid"].split()[0], process["CapEff"], process["NoNewPrivs"]
    assert rights == ("65532", "0" * 16, "1"), rights
    written = podman("exec", name, "/bin/sh", "-c", "echo > /app/file", check=False)
    assert "Read-only file system" in written.stderr, written.stderr or "the root can be written"

    idle = connections(FILES + 76, lambda n: b"")
    assert order("among-idle-clients")[0] == 201, "idle clients"
    for client in idle:
        with contextlib.suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"x" * 400_000)
    serves(name, "unfinished heads")
    assert order("among-unfinished-heads")[0] == 201, "unfinished heads"
    for client in idle:
        client.close()
    burst = connections(1000, lambda n: HEAD + b"Idempotency-Key: burst-%d\r\n\r\n" % n + ORDER)
    statuses = [client.recv(12)[-3:].decode() for client in burst]
    for client in burst:
        client.close()
    serves(name, f"1,000 clients at once ({limit >> 20} MiB)")
    print("1,000 clients at once:", {status: statuses.count(status) for status in set(statuses)})
    assert "201" in statuses and set(statuses) <= {"201", "500", "503"}, set(statuses)

    children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for process in (postmaster, *children):
        os.kill(int(process), signal.SIGSTOP)
    try:
        assert probe(container, "readinessProbe") == 200, "readiness without Postgres"
        assert probe(container, "livenessProbe") == 200, "liveness without Postgres"
        assert order("first")[:3] == (201, "true", order_id), "replay without Postgres"
        status, _, _, retry_after = order("second")
        assert status == 503 and retry_after, f"creation without Postgres: {status}"
    finally:
        for process in (postmaster, *children):
            os.kill(int(process), signal.SIGCONT)

    slow, = connections(1, lambda n: HEAD + b"Idempotency-Key: slow\r\n\r\n" + ORDER[:20])
    begin = time.monotonic()
    # SIGTERM, and SIGKILL when the time is over.
    stop = start_podman("stop", f"--time={grace}", name)
    time.sleep(2)
    assert order("while-it-drains")[0] == 201, "a client that does not know yet"
    time.sleep(6)
    slow.sendall(ORDER[20:])
    answer = slow.recv(12)
    assert answer.endswith(b" 201"), f"a request in flight at SIGTERM got {answer}"
    slow.close()
    stop.communicate()
    code, took = json.loads(podman("inspect", name).stdout)[0]["State"]["ExitCode"], time.monotonic() - begin
    assert code == 0 and took < 20, f"it ended with {code} after {took:.1f} s"


folder.mkdir(parents=True)
tools = ["/bin/sh", "/bin/cat", "/bin/sleep"]
if spin.endswith("/runner"):
    (folder / "spin").write_text('#!/bin/sh\nshift\nexec runner --cache-dir /tmp/cache "$@"\n')
    tools.append(spin)
    spin = str(folder / "spin")
try:
    if can_run():
        image("orders", "deploy/image/Containerfile", *tools, spin)
        image("orders-migrator", "deploy/image/migrator.Containerfile", migrator)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        by_name = {name: (spec["containers"][0], pod) for name, spec, pod in pods(port)}
        name = play("orders-migrate", by_name["orders-migrate"][1])
        code = podman("wait", name).stdout.strip()
        assert code == "0", podman("logs", name).stderr
        container, pod = by_name["orders"]
        name = play("orders", pod)
        try:
            walk(container, pod["spec"]["terminationGracePeriodSeconds"], name)
        except BaseException:
            print(podman("logs", name).stderr[-2000:], file=sys.stderr)
            raise
finally:
    podman("pod", "rm", "--force", "--all", check=False)
    podman("rmi", "--force", "--all", check=False)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(run_folder, ignore_errors=True)
