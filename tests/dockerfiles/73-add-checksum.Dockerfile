# ADD --checksum
FROM base
ARG DIGEST=028e6110d27a57617fdb68ebd0bc0954d47ff12d610462aad7f058c80fd36ac2
ADD --checksum=sha256:$DIGEST http://@server/dated /x
