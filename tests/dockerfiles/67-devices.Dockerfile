# A RUN that makes devices
# ours refuse: Operation not permitted
FROM base
RUN mknod /null c 1 3 && mknod /loop b 7 0
