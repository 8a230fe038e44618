"""Every command that the documentation names, and how the tests execute it (tests/docs/test_commands.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Runs:
    """Run by a shell in a house of its own; exit code 0 and `says`, a pattern, in its output are expected.

    `instead` holds what stands here for a placeholder or for something that only an installation has.
    """

    says: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)
    beside: Literal["", "server", "demonstration"] = ""
    until_stopped: bool = False
    """It says so once it serves, and ends with exit code 0 when it is asked to."""


@dataclass(frozen=True)
class Named:
    """Named in passing, without its arguments: `whole` is the command with them, which runs here."""

    whole: str


@dataclass(frozen=True)
class Elsewhere:
    """Cannot run here; `proof` is the test that holds it against what can be known without running it."""

    reason: str
    proof: str


CLUSTER = Elsewhere(
    "needs a cluster", "tests/docs/test_commands.py::test_what_is_named_in_a_cluster_is_in_the_manifests"
)
MANIFESTS = Elsewhere("needs a cluster", "tests/deploy/test_deploy_kubernetes.py::test_every_manifest_fits_the_schema")
IMAGE = Elsewhere(
    "needs a container runtime", "tests/deploy/test_deploy_files.py::test_hadolint_finds_nothing_in_the_containerfile"
)
COMPOSE = Elsewhere(
    "needs a container runtime", "tests/deploy/test_deploy_files.py::test_dclint_finds_nothing_in_the_compose_file"
)
REGISTRY = Elsewhere(
    "needs a registry of images",
    "tests/deploy/test_deploy_files.py::test_the_image_is_pinned_runs_as_nobody_in_particular_and_tells_its_health",
)
UNIT = Elsewhere("needs systemd as process 1", "tests/deploy/test_deploy_files.py::test_systemd_accepts_the_unit")
EXAMPLE = Elsewhere(
    "runs there", "tests/docs/test_documentation.py::test_a_signing_example_activates_a_code_on_a_real_server"
)
FIRST_PRODUCT = Elsewhere(
    "runs there",
    "tests/docs/test_documentation.py::test_the_first_product_example_makes_what_the_marketplace_needs_and_can_be_repeated",
)
PACKAGES = Elsewhere("changes the machine", "tests/docs/test_packaging.py::test_every_direct_dependency_is_locked")
PROXY = Elsewhere(
    "needs the ports of the machine",
    "tests/transport/test_proxies.py::test_host_path_query_and_body_arrive_as_they_were_sent",
)
INTO_ETC = {"/etc/": "etc/"}
LOCKS = Elsewhere(
    "needs a package index",
    "tests/docs/test_packaging.py::test_a_lock_pins_every_package_with_hashes_and_names_no_index",
)
WHEEL = Elsewhere(
    "needs the environment that could not be filled without an index",
    "tests/docs/test_packaging.py::test_the_wheel_holds_migrations_the_api_page_and_the_type_marker",
)
TARGETS = "tests/docs/test_documentation.py::test_every_make_target_that_the_readme_names_exists"

ON_DATA = {"/var/lib/licensesvc": "data"}
AT_SERVER = {"http://127.0.0.1:8080": "{server}"}
FREE_PORT = {"serve": "serve --port 0"}
TO_BACKUP = "licensesvc backup today.age --recipient age1…"
TO_COMPROMISE = 'licensesvc keys compromise KID --reason "…"'
TO_SEND = 'licensesvc license send-code LICENSE --reason "…"'
TO_RESTORE = "licensesvc restore today.age --data-dir data --identity-file backup-identity.txt"
TO_ORDER = "licensesvc sandbox order --data-dir data --product-id OFFI-DEMO-0001"
TO_TELL = "licensesvc sandbox seller http://127.0.0.1:8080/callbacks/CONNECTION --data-dir sandbox"
TO_CHECK = "licensesvc sandbox check https://licenses.example.com/callbacks --key-file key.txt --dialect all"
AT_SANDBOX = Elsewhere(
    "needs a sandbox and a seller", "tests/e2e/test_cli_sandbox.py::test_the_life_of_an_order_from_the_command_line"
)
SANDBOX_TROUBLE = Elsewhere(
    "needs a sandbox and a seller",
    "tests/e2e/test_cli_sandbox.py::test_failures_probes_outages_and_chaos_from_the_command_line",
)
SUITE = Elsewhere(
    "needs a seller",
    "tests/sandbox/test_sandbox_check.py::test_the_key_comes_from_a_file_a_variable_or_the_terminal_and_a_right_seller_is_exit_code_0",
)
OFFLINE = {"kubectl": "kubectl --dry-run=client"}
SEEDED = {"kubectl": "licensesvc init --data-dir seed && kubectl --dry-run=client"}

OPERATED = Elsewhere(
    "needs something that failed before", "tests/e2e/test_cli_messages.py::test_messages_are_listed_shown_and_restarted"
)
RETRIED = Elsewhere(
    "needs work that was given up", "tests/e2e/test_cli_messages.py::test_given_up_work_is_listed_and_tried_again"
)
LINKED = Elsewhere("needs a case", "tests/e2e/test_cli_cases.py::test_links_are_made_listed_and_revoked")
MAILED = Elsewhere(
    "needs a case with a buyer's address", "tests/e2e/test_cli_cases.py::test_a_link_is_mailed_and_not_shown"
)
TOLD = Elsewhere(
    "needs a receiver", "tests/e2e/test_cli_webhooks.py::test_an_endpoint_is_made_stopped_started_and_told_again"
)
COMPARED = Elsewhere("needs an order that differs", "tests/e2e/test_cli_messages.py::test_orders_are_compared_at_once")

TABLE: Mapping[str, Runs | Named | Elsewhere] = {
    "make run": Elsewhere(
        "serves on ports of its own until Ctrl-C",
        "tests/e2e/test_demo.py::test_serving_on_shows_a_token_that_works_and_ctrl_c_stops_everything",
    ),
    "make demo": Elsewhere(
        "runs there", "tests/docs/test_documentation.py::test_the_story_in_the_readme_is_the_one_that_the_demo_tells"
    ),
    "make test": Elsewhere("is this very run", TARGETS),
    "make bench": Elsewhere(
        "takes minutes", "tests/e2e/test_benchmark.py::test_a_quick_run_ends_with_one_line_of_figures"
    ),
    "make lock": LOCKS,
    "python3 docs/examples/activate.py http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    "node docs/examples/activate.mjs http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    "sh docs/examples/activate.sh http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    # Setting up
    "licensesvc init": Runs(),
    "licensesvc init --data-dir seed": Runs(),
    "licensesvc serve": Runs(r"ready on http://127\.0\.0\.1", FREE_PORT, until_stopped=True),
    "licensesvc serve --data-dir /var/lib/licensesvc --host 0.0.0.0 --port 443 --tls-cert fullchain.pem --tls-key privkey.pem": Runs(
        "ready on https://", {**ON_DATA, "443": "0"}, until_stopped=True
    ),
    "licensesvc migrate": Runs(),
    "licensesvc check-config": Runs(),
    "licensesvc doctor": Runs("ok +schema"),
    "licensesvc audit": Runs("clean"),
    "licensesvc admin create-token --name NAME --role owner": Runs(),
    'licensesvc credential create --connection ID --product ID --name "my program"': Runs(
        "AK", {"connection ID": "connection {connection}", "product ID": "product {product}"}
    ),
    "licensesvc sandbox": Runs("ready on http://", {"sandbox": "sandbox --port 0"}, until_stopped=True),
    "licensesvc sandbox order": Named(TO_ORDER),
    "licensesvc sandbox seller": AT_SANDBOX,
    "licensesvc sandbox check": SUITE,
    "licensesvc sandbox chaos": SANDBOX_TROUBLE,
    "licensesvc sandbox serve --data-dir sandbox --time-factor 0.01": Runs(
        "ready on http://", {"serve": "serve --port 0"}, until_stopped=True
    ),
    TO_TELL: AT_SANDBOX,
    TO_CHECK: SUITE,
    **dict.fromkeys(
        (
            "licensesvc sandbox order --product-id OFFI1 --dialect LICENSE_2_0 --period-type year --data-dir sandbox",
            "licensesvc sandbox renew ORDER --period-type month --period-number 3 --data-dir sandbox",
            "licensesvc sandbox refund-renewal ORDER --data-dir sandbox",
            "licensesvc sandbox freeze ORDER --data-dir sandbox",
            "licensesvc sandbox unfreeze ORDER --data-dir sandbox",
            "licensesvc sandbox expire ORDER --data-dir sandbox",
            "licensesvc sandbox release ORDER --data-dir sandbox",
            "licensesvc sandbox refund ORDER --data-dir sandbox",
            "licensesvc sandbox claim ORDER --data-dir sandbox",
            "licensesvc sandbox codes --data-dir sandbox",
            "licensesvc sandbox messages --data-dir sandbox",
            "licensesvc sandbox test-codes --product-id OFFI1 --days 30 --data-dir sandbox",
        ),
        AT_SANDBOX,
    ),
    **dict.fromkeys(
        (
            "licensesvc sandbox restart 1 --data-dir sandbox",
            "licensesvc sandbox mails --data-dir sandbox",
            "licensesvc sandbox save-cases --product-id OFFI1 --data-dir sandbox",
            "licensesvc sandbox replay --data-dir sandbox",
            "licensesvc sandbox probes --data-dir sandbox",
            "licensesvc sandbox thaw --product-id OFFI1 --data-dir sandbox",
            "licensesvc sandbox outage unavailable --data-dir sandbox",
            "licensesvc sandbox chaos 42:0.5 --data-dir sandbox",
            "licensesvc sandbox chaos --data-dir sandbox",
            "licensesvc sandbox chaos off --data-dir sandbox",
        ),
        SANDBOX_TROUBLE,
    ),
    TO_ORDER: Runs(r"LS-[0-9A-Z-]{20}", beside="demonstration"),
    # Every day
    "licensesvc license": Named(TO_SEND),
    TO_SEND: Runs(
        instead={
            "licensesvc": "LICENSESVC_SMTP_URL=smtp://127.0.0.1:1 LICENSESVC_MAIL_FROM=a@example.com licensesvc",
            "LICENSE ": "{license} ",
        }
    ),
    "licensesvc import-orders FILE --connection ID": Runs(instead={"FILE": "orders.csv", "ID": "{connection}"}),
    "licensesvc export licenses": Runs("lic_"),
    "licensesvc buyer list": Runs("buy_"),
    'licensesvc buyer erase ID --reason "…"': Runs(instead={"ID": "{buyer}"}),
    "licensesvc prune": Runs(),
    # What went wrong
    "licensesvc message list --state FAILED": Runs(),
    "licensesvc message list --order-id ORDER_ID": Runs(instead={"ORDER_ID": "CS1"}),
    "licensesvc message show MESSAGE_ID": OPERATED,
    'licensesvc message restart MESSAGE_ID --reason "product mapped, ticket 4711"': OPERATED,
    'licensesvc message restart MESSAGE_ID --reason "…"': OPERATED,
    'licensesvc message restart --activity getLicense --since TIME --reason "database was away"': Runs(
        "nothing to restart", {"TIME": "2026-11-23T16:00:00Z"}
    ),
    "licensesvc outbox list --state given_up": Runs(),
    'licensesvc outbox retry ITEM_ID --reason "AK/SK corrected"': RETRIED,
    'licensesvc outbox retry ITEM_ID --reason "…"': RETRIED,
    "licensesvc reconcile": Runs(),
    "licensesvc reconcile --now": Runs(),
    'licensesvc reconcile --repair FINDING_ID --reason "refund seen in the seller center"': COMPARED,
    'licensesvc reconcile --dismiss FINDING_ID --reason "quantity agreed with the buyer"': COMPARED,
    'licensesvc reconcile --repair FINDING_ID --reason "…"': COMPARED,
    'licensesvc reconcile --dismiss FINDING_ID --reason "…"': COMPARED,
    **dict.fromkeys(
        (
            "licensesvc case link make CASE_ID --days 30",
            "licensesvc case link list CASE_ID",
            "licensesvc case link revoke LINK_ID",
        ),
        LINKED,
    ),
    **dict.fromkeys(
        ("licensesvc case link make CASE_ID --mail", "licensesvc case link make CASE_ID --mail --language en"), MAILED
    ),
    "licensesvc webhook list": Runs(),
    **dict.fromkeys(
        (
            'licensesvc webhook create URL --event "license.*"',
            "licensesvc webhook disable ENDPOINT",
            "licensesvc webhook enable ENDPOINT",
            "licensesvc webhook replay ENDPOINT --since 2026-11-25T00:00:00Z",
        ),
        TOLD,
    ),
    # Backups and keys
    "licensesvc backup-key backup-identity.txt": Runs("age1"),
    "licensesvc backup": Named(TO_BACKUP),
    TO_BACKUP: Runs("state of", {"age1…": "{recipient}"}, beside="server"),
    "licensesvc backup FILE --recipient age1…": Runs(instead={"FILE": "today.age", "age1…": "{recipient}"}),
    "licensesvc restore": Named(TO_RESTORE),
    TO_RESTORE: Runs(
        instead={
            "licensesvc restore": "licensesvc backup today.age --recipient {recipient} && licensesvc restore",
            "--data-dir data": "--data-dir restored",
            "backup-identity.txt": "identity.txt",
        }
    ),
    "licensesvc keys list": Runs("ACTIVE"),
    "licensesvc keys rotate": Runs("RETIRED"),
    TO_COMPROMISE: Runs("COMPROMISED", {"KID": "$(licensesvc keys list --json | grep -o '[^\"]\\{{43\\}}' | head -1)"}),
    "licensesvc vault list": Runs("True"),
    "licensesvc vault rotate": Runs(),
    # systemd
    "python3 -m venv /opt/licensesvc": Runs(instead={"venv /opt": "venv --without-pip opt"}),
    "/opt/licensesvc/bin/python -m pip install --require-hashes -r requirements/runtime.lock": LOCKS,
    "/opt/licensesvc/bin/python -m pip install --no-deps .": WHEEL,
    "apt-get install --yes python3-venv nginx": PACKAGES,
    "install -D -m 644 deploy/licensesvc.sysusers /etc/sysusers.d/licensesvc.conf": Runs(instead=INTO_ETC),
    "systemd-sysusers": UNIT,
    "install -D -m 600 deploy/environment /etc/licensesvc/environment": Runs(instead=INTO_ETC),
    "install -m 755 deploy/licensesvc.sh /usr/local/bin/licensesvc": Runs(instead={"/usr/local/bin/": "./"}),
    "install -m 644 deploy/licensesvc.service /etc/systemd/system/": Runs(instead={"/etc/systemd/system/": "."}),
    "install -m 644 deploy/nginx.conf /etc/nginx/nginx.conf": Runs(instead={"/etc/nginx/": "./"}),
    "nginx -t": PROXY,
    "systemctl reload nginx": PROXY,
    "licensesvc admin create-token --name me --role owner": Runs("lsa_"),
    "export CALLBACK_KEY=… API_ACCESS_KEY=… API_SECRET=…": FIRST_PRODUCT,
    "python3 docs/examples/first_product.py https://licenses.example.com TOKEN PRODUCT_ID": FIRST_PRODUCT,
    "systemctl daemon-reload": UNIT,
    "systemctl enable --now licensesvc": UNIT,
    "systemctl stop licensesvc": UNIT,
    "systemctl start licensesvc": UNIT,
    "systemctl status licensesvc": UNIT,
    "curl -s http://127.0.0.1:8080/readyz": Runs("ready", AT_SERVER, beside="server"),
    "curl -s --unix-socket /var/lib/licensesvc/control.sock http://localhost/metrics": Runs(
        "^licensesvc_build_info", ON_DATA, beside="server"
    ),
    """journalctl -u licensesvc --since -15min --output cat | grep -v '"event":"request"' | tail -50""": Runs(
        r"(?s)\A(?!.*/readyz).*startup complete",
        {"journalctl -u licensesvc --since -15min --output cat": "curl -sS {server}/readyz >&2; cat server.log"},
        beside="server",
    ),
    # Containers
    "docker build -f deploy/Containerfile -t licensesvc .": IMAGE,
    "docker build -f deploy/Containerfile --build-arg PYTHON=python:3.13-slim-trixie@sha256:… -t licensesvc .": IMAGE,
    "docker buildx imagetools inspect python:3.13-slim-trixie": REGISTRY,
    "docker push": REGISTRY,
    "docker compose -f deploy/compose.yaml up --detach": COMPOSE,
    "docker compose -f deploy/compose.yaml build --pull && docker compose -f deploy/compose.yaml up --detach": COMPOSE,
    # Kubernetes
    "kubectl kustomize": MANIFESTS,
    "kubectl apply -k deploy/kubernetes/overlays/production": MANIFESTS,
    "kubectl create namespace licensesvc": Runs("namespace/licensesvc", OFFLINE),
    "kubectl -n licensesvc create secret generic licensesvc-keys --from-file=seed/signing-keys.json --from-file=seed/vault-keys.json": Runs(
        "secret/licensesvc-keys", SEEDED
    ),
    'kubectl -n licensesvc create secret generic licensesvc-database --from-literal=url="$DSN"': Runs(
        "secret/licensesvc-database", OFFLINE
    ),
    "kubectl -n licensesvc get pods": CLUSTER,
    "kubectl -n licensesvc delete job licensesvc-migrate --ignore-not-found": CLUSTER,
    "kubectl -n licensesvc wait --for=condition=complete --timeout=10m job/licensesvc-migrate": CLUSTER,
    "kubectl -n licensesvc rollout status statefulset/licensesvc": CLUSTER,
    "kubectl rollout restart statefulset/licensesvc": CLUSTER,
}
