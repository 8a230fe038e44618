#!/bin/sh
# Runs a command of the installed server as its user and with its settings, e.g. `licensesvc doctor`. Needs root.
set -eu
set -a
. /etc/licensesvc/environment
set +a
exec runuser -u licensesvc -- /opt/licensesvc/bin/licensesvc "$@"
