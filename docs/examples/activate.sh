#!/bin/sh
# Activate a license code with curl and openssl. usage: sh activate.sh BASE_URL ACCESS_KEY SECRET_KEY LICENSE_CODE
set -eu
base=${1%/}
path=/api/mkp-openapi-public/global/v1/license/activate
host=${base#*://}
date=$(date -u +%Y%m%dT%H%M%SZ)
body="{\"license\":\"$4\"}"
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }
canonical="POST
$path/

content-type:application/json
host:$host
x-sdk-date:$date

content-type;host;x-sdk-date
$(sha256 "$body")"
signature=$(printf 'SDK-HMAC-SHA256\n%s\n%s' "$date" "$(sha256 "$canonical")" |
  openssl dgst -sha256 -hmac "$3" -r | cut -d' ' -f1)
answer=$(curl -sS "$base$path" -H 'Content-Type: application/json' -H "X-Sdk-Date: $date" \
  -H "Authorization: SDK-HMAC-SHA256 Access=$2, SignedHeaders=content-type;host;x-sdk-date, Signature=$signature" \
  -d "$body")
printf '%s\n' "$answer"
case $answer in *'"error_code":"92020000"'*) ;; *) exit 1 ;; esac
