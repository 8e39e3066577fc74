#!/bin/sh
# What a program prints is sent while it runs. nginx passes it on at once because of X-Accel-Buffering.
echo "Content-Type: text/plain"
echo "X-Accel-Buffering: no"
echo
for second in 1 2 3; do
    date
    sleep 1
done
