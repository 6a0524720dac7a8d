# Rights of a folder that is copied, where it is new and where it is there
FROM base
COPY strange /new
COPY strange /tmp
COPY strange/ /over/
COPY --from=base /tmp /copied-tmp
COPY --from=base /root /deep/root
