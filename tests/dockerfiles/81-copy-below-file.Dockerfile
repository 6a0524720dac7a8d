# COPY of a file to below a file
# both refuse: /etc/passwd
FROM base
COPY one.txt /etc/passwd/
