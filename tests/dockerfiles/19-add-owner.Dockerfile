# ADD --chown of an archive
FROM base
ADD --chown=6:7 plain.tar /owned/
