# COPY --from an image, by number, by a name in other letters
FROM base AS First
RUN echo first > /first
FROM base
COPY --from=base /data/ /data2/
COPY --from=0 /first /by-number
COPY --from=FIRST /first /by-name
COPY --from=base /etc/pass* /library /linked/
