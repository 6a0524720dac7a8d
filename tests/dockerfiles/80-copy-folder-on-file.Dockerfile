# COPY of a folder to where a file is
# both refuse: /etc/passwd
FROM base
COPY dir /etc/passwd
