# RUN --mount=type=bind: the context, a stage, an image; what is written there is lost
FROM base AS one
RUN mkdir /out && echo made > /out/made
FROM base
RUN --mount=target=/ctx cat /ctx/one.txt > /one && ls -ln /ctx/dir > /list
RUN --mount=type=bind,from=one,source=/out,target=/mnt,rw echo written > /mnt/written && cat /mnt/* > /both
RUN --mount=type=bind,source=two.txt,target=/mnt/two.txt cat /mnt/two.txt > /two
RUN --mount=from=base,target=/other,readonly cat /other/etc/group > /group
RUN ls /mnt /ctx > /left 2>&1 || true
