#!/bin/sh
ln -s /nowhere gone
