#!/bin/sh
echo '*' > .dockerignore
printf '*\n!dir\ndir/sub\n!one.txt\n' > Dockerfile.dockerignore
