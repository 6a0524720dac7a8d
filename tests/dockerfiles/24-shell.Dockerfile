# SHELL: for RUN, CMD and ENTRYPOINT
FROM base
SHELL ["/bin/sh", "-e", "-c"]
RUN false || echo shell > /one; echo two >> /one
CMD /one two
SHELL ["/bin/sh", "-xc"]
ENTRYPOINT cat /one
HEALTHCHECK CMD cat /two
