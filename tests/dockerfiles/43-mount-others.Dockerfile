# RUN --mount: caches, memory, secrets
# build: --secret id=key,src=two.txt
FROM base
RUN --mount=type=cache,target=/cache,uid=1000,mode=0700 echo c > /cache/c && ls -ldn /cache | head -c 10 > /cache-mode
RUN --mount=type=cache,target=/cache,uid=1000,mode=0700 cat /cache/c > /again
RUN --mount=type=tmpfs,target=/memory touch /memory/x
RUN --mount=type=secret,id=key cat /run/secrets/key > /secret && stat -c %a%u%g /run/secrets/key > /secret-mode
RUN --mount=type=secret,id=key,target=/etc/key,mode=0444,uid=5 stat -c %a%u%g /etc/key > /key-mode
RUN --mount=type=secret,id=missing ls /run/secrets > /missing 2>&1 || true
RUN --mount=type=tmpfs,target=/data ls /data > /hidden
