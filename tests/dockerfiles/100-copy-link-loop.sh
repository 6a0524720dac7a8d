#!/bin/sh
ln -s pong ping
ln -s ping pong
