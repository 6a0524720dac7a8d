# EXPOSE: ranges, protocols, hosts, again
FROM base AS one
EXPOSE 80
FROM one
EXPOSE 443/TCP 53/udp 53 8000-8003 9000-9001/sctp 127.0.0.1:99:98 80/tcp
EXPOSE 7 6 5
