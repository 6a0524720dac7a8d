#!/bin/sh
ln -s /one.txt to-file
ln -s /dir to-folder
ln -s /to-file to-link
ln -s /plain.tar to-archive
mkdir far
ln -s /nowhere far/dangling
ln -s /one.txt far/inside
find . -exec touch -h -d @1500000000 {} +
