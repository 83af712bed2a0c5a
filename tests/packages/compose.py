#!/usr/bin/env python3
"""Starts what compose.yaml says as plain processes, and uses it: where there is no Docker, the file must not rot.

compose.py check            compares the file with what it refers to
compose.py run DEBIAN PACKAGES STORE WORK
    DEBIAN is a folder with the Debian that stands for both base images, STORE the program that stands for Garage
    (tests/examples/stand_in_store.rs). It wants mounts, processes and a network of its own, all of which end with it.

Images are built as packaging/Containerfile says, in folders that lie over DEBIAN. Each service runs in its folder, as its user,
with its environment, capabilities and mounts. As under Docker, 127.0.0.1 is the service itself: each has an address of its own in
each of its networks, and knows the names of the others there.
"""

import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

import story
import yaml

REPO = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = REPO / "compose.yaml"
CONTAINERFILE = REPO / "packaging/Containerfile"
NEW_SECRETS = REPO / "packaging/compose/new-secrets"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|KEYS?$|KEY_ID$")
# What images read that others have made: `postgres`, and Garage.
READ_BY_IMAGES = {
    "database": {"POSTGRES_DB", "POSTGRES_PASSWORD", "PGDATA"},
    "store": {"GARAGE_RPC_SECRET", "GARAGE_DEFAULT_BUCKET", "GARAGE_DEFAULT_ACCESS_KEY", "GARAGE_DEFAULT_SECRET_KEY"},
}
# Which PostgreSQL the Debian has.
RELEASE = "15"
PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{RELEASE}/bin"
# What the entrypoint of the image `postgres` does, with the default of releases before 18.
POSTGRES_ENTRYPOINT = """set -eu
data=${PGDATA:-/var/lib/postgresql/data}
if [ ! -e "$data/PG_VERSION" ]; then
    install -d -o postgres -g postgres -m 700 "$data"
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    chmod 644 /tmp/password
    setpriv --reuid postgres --regid postgres --clear-groups sh -euc '
        initdb --pgdata "$1" --auth=scram-sha-256 --pwfile=/tmp/password --locale=C.UTF-8 --encoding=UTF8
        echo "host all all all scram-sha-256" >>"$1/pg_hba.conf"
        echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$1" postgres' - "$data"
    rm /tmp/password
fi
exec setpriv --reuid postgres --regid postgres --clear-groups "$@" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


def fail(problem: str) -> None:
    raise SystemExit(f"error: compose.yaml: {problem}")


def expect(holds: bool, problem: str) -> None:
    if not holds:
        fail(problem)


def fill_in(value: object, variables: dict) -> object:
    """The value as Compose reads it, with the variables of .env."""
    if isinstance(value, dict):
        return {key: fill_in(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [fill_in(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def one(found: re.Match) -> str:
        name, kind, rest = found.groups()
        given = variables.get(name, "")
        expect(given != "" or kind == "-", f"{name} is not set: {rest}")
        return given or rest

    return VARIABLE.sub(one, value)


def secrets(folder: pathlib.Path) -> dict:
    """What `new-secrets` writes, which must not be written twice."""
    file = folder / ".env"
    subprocess.run(["sh", NEW_SECRETS, file], check=True, stdout=subprocess.DEVNULL)
    expect(file.stat().st_mode & 0o77 == 0, "others can read .env")
    again = subprocess.run(["sh", NEW_SECRETS, file], capture_output=True, text=True, check=False)
    expect(again.returncode == 1 and "was not changed" in again.stderr, "a second new-secrets is not refused")
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


class Stage:
    """One image of the Containerfile, as its lines say."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.steps: list[tuple[str, str]] = []


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    text = re.sub(r"\\\n", " ", "\n".join(line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")))
    current = None
    for line in filter(None, text.splitlines()):
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, name = rest.split(" AS ")
            current = found[name] = Stage(base)
        elif current:
            current.steps.append((word, rest))
    return found


def check(compose: dict, variables: dict) -> None:
    """The file and what it refers to agree, and nobody gets more than they need."""
    services, images = compose["services"], stages()
    used = set()
    for name, service in services.items():
        text = json.dumps(service)
        used |= {match[0] for match in VARIABLE.findall(text)}
        built = service.get("build")
        expect(not built or built["target"] in images, f"{name}: the Containerfile has no {built}")
        by_others = {other["image"] for other in services.values() if "build" in other}
        expect("build" in service or service["image"] in by_others or ":v" in service["image"], f"{name}: no version of {service['image']}")
        expect("no-new-privileges:true" in service["security_opt"], f"{name} can gain privileges")
        expect(name == "database" or service.get("cap_drop") == ["ALL"], f"{name} has capabilities")
        for port in service.get("ports", []):
            expect(port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network")
        for variable, value in service.get("environment", {}).items():
            literal = SECRET.search(variable) and not VARIABLE.search(value)
            expect(not literal, f"{name}: {variable} stands in the file")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = (REPO / source).exists() if source.startswith(".") else source in compose["volumes"]
            expect(there, f"{name}: there is no {source}")
            expect(not source.startswith(".") or mount.endswith(":ro"), f"{name} may write to {source}")
        for needed, when in service.get("depends_on", {}).items():
            healthy = when["condition"] != "service_healthy" or "healthcheck" in services[needed]
            ends = when["condition"] != "service_completed_successfully" or services[needed].get("restart") == "no"
            expect(healthy and ends, f"{name}: {needed} cannot be waited for")
        expect(service.get("restart") in ("no", "unless-stopped"), f"{name} does not come back when the machine does")
        for variable, value in service.get("environment", {}).items():
            # The server does not ask curl, which takes such a name for the container itself, and signs URLs for browsers.
            expect(".localhost" not in value or (name, variable) == ("server", "S3_ENDPOINT"), f"{name}: {variable} is {value}")
    check_signed_host(services)
    check_database_volume(compose)
    own = {"POSTGRES"}
    expect(used - own == set(variables), f"new-secrets and the file differ: {sorted((used - own) ^ set(variables))}")
    for name, service in services.items():
        given, read = set(service.get("environment", {})), read_by(name, service)
        expect(given == read, f"{name}: its environment and what it reads differ: {sorted(given ^ read)}")
    expect(services["server"]["environment"]["DATABASE_URL"].startswith("postgres://keepsake_worker:"), "the server is not the worker's role")


def read_by(name: str, service: dict) -> set[str]:
    """The variables that the service reads: an image of others, a script of ours, or the server."""
    if name in READ_BY_IMAGES:
        return READ_BY_IMAGES[name]
    given = set(service["environment"])
    if "entrypoint" in service:
        script = (REPO / "packaging" / service["entrypoint"][-1].lstrip("/")).read_text()
        read = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", script))
        # libpq reads it, for whoever connects.
        return read | {"PGPASSWORD"} if "DATABASE_URL" in read else read
    settings = (REPO / "docs/settings.md").read_text()
    return {setting for setting in given if f"| `{setting}`" in settings or setting == "DATABASE_URL"}


def check_signed_host(services: dict) -> None:
    """The host of signed URLs is the store to the server, by an alias, and to a browser, by a published port."""
    host, port = services["server"]["environment"]["S3_ENDPOINT"].removeprefix("http://").split(":")
    shared = set(services["server"]["networks"]) & set(services["store"]["networks"])
    expect(any(host in services["store"]["networks"][network]["aliases"] for network in shared), f"the server does not know {host}")
    expect(host.endswith(".localhost"), f"a browser does not know {host}")
    expect(f"127.0.0.1:{port}:{port}" in services["store"]["ports"], f"a browser does not reach {host}:{port}")


def check_database_volume(compose: dict) -> None:
    """Whatever the release, the data is in a volume that has a name, and that no other release has."""
    database = compose["services"]["database"]
    data = database["environment"].get("PGDATA", "the default of the image")
    sources = [source for source, target in (mount.split(":")[:2] for mount in database["volumes"]) if data.startswith(f"{target}/")]
    expect(len(sources) == 1, f"the database's data ({data}) is in no volume")
    name = (compose["volumes"][sources[0]] or {}).get("name", sources[0])
    expect(database["build"]["args"]["POSTGRES"] in name, f"releases of PostgreSQL share the volume {name}")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


class Image:
    """A folder over the Debian, with what its stage has done, and what its processes get."""

    def __init__(self, root: pathlib.Path, base: pathlib.Path) -> None:
        self.root, self.base = root, base
        self.environment = {"PATH": PATH}
        self.user = "root"
        self.command: list[str] = []
        self.entrypoint: list[str] = []

    def lay(self, over: "pathlib.Path | None" = None) -> None:
        """Mounts the folder: what is written to it stays in it."""
        parts = self.root.with_suffix(".parts")
        for folder in (self.root, parts / "upper", parts / "work"):
            folder.mkdir(parents=True)
        lower = f"{over}:{self.base}" if over else self.base
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={parts / 'upper'},workdir={parts / 'work'}", self.root)
        mount("--rbind", "/proc", self.root / "proc")
        mount("-t", "tmpfs", "tmpfs", self.root / "dev/shm")

    @property
    def written(self) -> pathlib.Path:
        return self.root.with_suffix(".parts") / "upper"

    def run(self, script: str, variables: dict) -> None:
        environment = [f"{name}={value}" for name, value in {**self.environment, **variables, "DEBIAN_FRONTEND": "noninteractive"}.items()]
        done = subprocess.run(["chroot", self.root, "env", "-i", *environment, "sh", "-euc", script], capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"the Containerfile's '{script}' failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def build(stage: Stage, image: Image, packages: pathlib.Path, arguments: dict) -> None:
    image.lay()
    for word, rest in stage.steps:
        if word == "COPY":
            *patterns, target = fill_in(rest, arguments).split()
            place = image.root / target.strip("/")
            place.mkdir(parents=True)
            for pattern in patterns:
                files = list(packages.glob(pattern))
                expect(len(files) == 1, f"{len(files)} packages are called {pattern}: {files}")
                (place / files[0].name).write_bytes(files[0].read_bytes())
        elif word == "RUN":
            image.run(rest, arguments)
        elif word == "ENV":
            image.environment.update(part.split("=", 1) for part in shlex.split(rest))
        elif word == "USER":
            image.user = rest
        elif word == "CMD":
            image.command = json.loads(rest)


def ip(*arguments: object, inside: "pathlib.Path | None" = None) -> None:
    entering = ["nsenter", f"--net={inside}"] if inside else []
    subprocess.run([*entering, "ip", *map(str, arguments)], check=True)


class Networks:
    """The networks of the file: each a bridge of this machine, with an address for each of its services."""

    def __init__(self, compose: dict) -> None:
        self.services = compose["services"]
        self.numbers = {network: number for number, network in enumerate(compose["networks"])}
        for number in self.numbers.values():
            ip("link", "add", f"net{number}", "type", "bridge")
            ip("address", "add", f"10.9.{number}.1/24", "dev", f"net{number}")
            ip("link", "set", f"net{number}", "up")

    def address(self, service: str, network: str) -> str:
        return f"10.9.{self.numbers[network]}.{list(self.services).index(service) + 2}"

    def connect(self, service: str, place: pathlib.Path) -> None:
        """A network stack of the service's own, at `place`, in all of its networks."""
        place.touch()
        subprocess.run(["unshare", f"--net={place}", "true"], check=True)
        ip("link", "set", "lo", "up", inside=place)
        for network in self.services[service]["networks"]:
            address, number = self.address(service, network), self.numbers[network]
            outer, inner = f"{address.split('.')[3]}net{number}", f"eth{number}"
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", inner, "netns", place)
            ip("link", "set", outer, "master", f"net{number}", "up")
            ip("address", "add", f"{address}/24", "dev", inner, inside=place)
            ip("link", "set", inner, "up", inside=place)

    def hosts(self, service: str) -> str:
        """The names that it knows: its networks' services, and what they are called there."""
        lines = ["127.0.0.1 localhost"]
        for other, facts in self.services.items():
            for network in facts["networks"]:
                if network in self.services[service]["networks"]:
                    aliases = (facts["networks"][network] or {}).get("aliases", []) if isinstance(facts["networks"], dict) else []
                    lines.append(" ".join([self.address(other, network), other, *aliases]))
        return "\n".join(lines) + "\n"

    def publish(self, service: str) -> None:
        """Its ports, at this machine's addresses."""
        for port in self.services[service].get("ports", []):
            here, outer, inner = port.split(":")
            there = (self.address(service, next(iter(self.services[service]["networks"]))), int(inner))
            listener = socket.create_server((here, int(outer)))
            threading.Thread(target=forward, args=(listener, there), daemon=True).start()


def forward(listener: socket.socket, there: tuple) -> None:
    while True:
        caller, _ = listener.accept()
        try:
            called = socket.create_connection(there)
        except OSError:
            caller.close()
            continue
        for source, sink in ((caller, called), (called, caller)):
            threading.Thread(target=carry, args=(source, sink), daemon=True).start()


def carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()


class Service:
    """One service of the file, in a folder of its own over its image's."""

    def __init__(self, name: str, said: dict, image: Image, work: pathlib.Path, networks: Networks) -> None:
        self.name, self.said, self.image = name, said, image
        self.place = Image(work / name, image.base)
        self.place.lay(image.written)
        self.log = work / f"{name}.log"
        self.network = work / f"{name}.network"
        networks.connect(name, self.network)
        (self.place.root / "etc/hosts").write_text(networks.hosts(name))
        for volume in said.get("volumes", []):
            source, target = volume.split(":")[:2]
            self.mount_volume(work, source, self.place.root / target.strip("/"))
        if said.get("read_only"):
            mount("-o", "remount,ro", self.place.root)
        self.process: "subprocess.Popen | None" = None

    def mount_volume(self, work: pathlib.Path, source: str, target: pathlib.Path) -> None:
        if source.startswith("."):
            source_path = REPO / source
        else:
            source_path = work / "volumes" / source
            source_path.mkdir(parents=True, exist_ok=True)
        if source_path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.touch()
        mount("--bind", source_path, target)

    def arguments(self, command: list[str]) -> list[str]:
        user = self.said.get("user", self.image.user)
        environment = {**self.image.environment, **self.said.get("environment", {})}
        less = ["--no-new-privs", "--reuid", user, "--regid", user, "--clear-groups"]
        if self.said.get("cap_drop"):
            less += ["--bounding-set", "-all", "--inh-caps", "-all"]
        values = [f"{name}={value}" for name, value in environment.items()]
        return ["nsenter", f"--net={self.network}", "chroot", str(self.place.root), "setpriv", *less, "env", "-i", *values, *command]

    def start(self) -> None:
        command = self.said.get("entrypoint", self.image.entrypoint) + self.said.get("command", self.image.command)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.arguments(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def complain(self, problem: str) -> None:
        fail(f"{self.name} {problem}:\n{self.log.read_text()[-3000:]}")

    def wait_until_healthy(self) -> None:
        health = self.said["healthcheck"]
        for _ in range(health["retries"] * 2):
            if self.process.poll() is not None:
                self.complain(f"ended with {self.process.returncode}")
            asked = subprocess.run(self.arguments(health["test"][1:]), capture_output=True, check=False)
            if asked.returncode == 0:
                return
            time.sleep(0.5)
        self.complain(f"is not healthy ({asked.stdout.decode()}{asked.stderr.decode()})")

    def wait_until_done(self) -> None:
        if self.process.wait(timeout=120) != 0:
            self.complain(f"ended with {self.process.returncode}")

    def stop(self) -> None:
        self.process.terminate()
        if self.process.wait(timeout=40) not in (0, -15):
            self.complain(f"ended with {self.process.returncode} when told to stop")


def in_order(services: dict) -> list[str]:
    """Each service after those that it depends on."""
    order: list[str] = []
    while len(order) < len(services):
        ready = [name for name, said in services.items() if name not in order and set(said.get("depends_on", {})) <= set(order)]
        expect(bool(ready), "services wait for each other")
        order += ready
    return order


def start(services: dict, running: dict[str, Service]) -> None:
    for name in in_order(services):
        for needed, when in services[name].get("depends_on", {}).items():
            if when["condition"] == "service_healthy":
                running[needed].wait_until_healthy()
            else:
                running[needed].wait_until_done()
        running[name].start()
        print(f"  - {name}", flush=True)
    running["server"].wait_until_healthy()


def use(running: dict[str, Service], variables: dict) -> None:
    """Makes a forum, and tells the story of packages in it."""
    owner = running["migrate"].arguments(["sh", "-c", 'psql -X -q -v ON_ERROR_STOP=1 "$DATABASE_URL"'])
    forum = (REPO / "tests/packages/forum.sql").read_text()
    made = subprocess.run(owner, input=forum, capture_output=True, text=True, check=False)
    expect(made.returncode == 0, f"the forum cannot be made: {made.stderr}")
    url = running["server"].said["environment"]["DATABASE_URL"]
    peek = running["migrate"].arguments(["psql", "-X", url, "-c", "SELECT * FROM post"])
    refused = subprocess.run(peek, capture_output=True, text=True, check=False)
    expect("permission denied" in refused.stderr, f"the server's role reads the tables: {refused.stdout}{refused.stderr}")
    try:
        story.tell(running["server"].said["environment"]["PUBLIC_ORIGIN"], variables["JWT_KEYS"], story.STEPS)
    except story.Wrong as wrong:
        running["server"].complain(str(wrong))


def run(debian: pathlib.Path, packages: pathlib.Path, store_program: pathlib.Path, work: pathlib.Path) -> None:
    variables = {**secrets(work), "POSTGRES": RELEASE}
    compose = fill_in(yaml.safe_load(COMPOSE.read_text()), variables)
    services = compose["services"]
    images = {}
    for service in services.values():
        if built := service.get("build"):
            image = images[service["image"]] = Image(work / f"image-{built['target']}", debian)
            arguments = {key: str(value) for key, value in built.get("args", {}).items()}
            build(stages()[built["target"]], image, packages, arguments)
            print(f"  - the image {service['image']}", flush=True)
    (images["keepsake-database"].root / "entrypoint").write_text(POSTGRES_ENTRYPOINT)
    images["keepsake-database"].entrypoint = ["sh", "/entrypoint"]
    store = images[services["store"]["image"]] = Image(work / "image-store", debian)
    store.lay()
    (store.root / "garage").write_bytes(store_program.read_bytes())
    (store.root / "garage").chmod(0o755)

    # Browsers know every name below localhost.
    (work / "hosts").write_text("127.0.0.1 localhost store.localhost\n")
    mount("--bind", work / "hosts", "/etc/hosts")
    networks = Networks(compose)
    running = {name: Service(name, said, images[said["image"]], work, networks) for name, said in services.items()}
    for name in services:
        networks.publish(name)
    start(services, running)
    expect((work / "volumes/database" / RELEASE / "docker/PG_VERSION").exists(), "the database's data is not in its volume")
    use(running, variables)
    # A second `up` finds everything there.
    for name in ("migrate", "admit-page"):
        running[name].start()
        running[name].wait_until_done()
    running["server"].stop()
    running["server"].start()
    running["server"].wait_until_healthy()
    for name in reversed(in_order(services)):
        if running[name].process.poll() is None:
            running[name].stop()
    for line in running["server"].log.read_text().splitlines():
        shown = [name for name, value in variables.items() if name != "POSTGRES" and value.split(":")[-1] in line]
        expect(not shown or shown == ["STORE_KEY_ID"], f"the server's log has {shown}")


def main() -> None:
    if sys.argv[1:] == ["check"]:
        with tempfile.TemporaryDirectory() as folder:
            check(yaml.safe_load(COMPOSE.read_text()), secrets(pathlib.Path(folder)))
    elif len(sys.argv) == 6 and sys.argv[1] == "run":
        run(*map(pathlib.Path, sys.argv[2:]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    os.umask(0o022)
    main()
