# RUN --mount=type=ssh without an agent: the variable is set, the socket is not there
FROM base
RUN --mount=type=ssh echo "${SSH_AUTH_SOCK:-none}" > /first; ls -d "$SSH_AUTH_SOCK" > /there 2> /dev/null || true
RUN --mount=type=ssh,id=one --mount=type=ssh,target=/socket echo "$SSH_AUTH_SOCK" > /two
RUN echo "[$SSH_AUTH_SOCK]" > /after
ENV SSH_AUTH_SOCK=mine
RUN --mount=type=ssh echo "$SSH_AUTH_SOCK" > /mine
