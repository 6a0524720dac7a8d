# HEALTHCHECK: times and numbers in every form, the last one counts
FROM base AS one
HEALTHCHECK --interval=1m30s --timeout=2.5s --start-period=1h --retries=12 CMD ["check", "it"]
FROM one
HEALTHCHECK --interval=500ms --retries=0 --start-interval=3s CMD  check  --flag "a b" $X
