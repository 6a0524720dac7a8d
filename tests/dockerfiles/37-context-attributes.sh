#!/bin/sh
# A capability and an attribute.
mkdir attributes && echo c > attributes/capable && echo n > attributes/noted && touch -d @1500000000 attributes/*
exec python3 -c 'import os
os.setxattr("attributes/capable", "security.capability", bytes([1, 0, 0, 2, 0, 0x20] + [0] * 14))
os.setxattr("attributes/noted", "user.note", b"note")'
