#!/bin/sh
echo one.txt > .dockerignore
