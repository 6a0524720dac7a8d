#!/bin/sh
sed -i 's/$/\r/' Dockerfile
