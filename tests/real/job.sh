#!/bin/sh
# A job without sockets: it says that it is ready with systemd-notify, works in rounds, and ends after the
# round in hand.
VERSION=1
trap 'stopping=yes' TERM
systemd-notify --ready --status="version=$VERSION"
while [ -z "$stopping" ]; do
    sleep 0.1 &
    wait
done
