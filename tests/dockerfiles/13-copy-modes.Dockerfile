# COPY --chmod: files, folders, setuid
FROM base
COPY --chmod=0640 one.txt /file
COPY --chmod=755 dir /folder/
COPY --chmod=4755 one.txt /setuid
COPY --chmod=1777 empty /sticky
COPY --chmod=0600 --chown=app:web dir/sub /both/below/
COPY strange/setuid strange/secret /kept/
COPY --chown=app strange/setuid /setuid-owned
ADD --chmod=0444 one.txt /added
COPY --chmod=0 one.txt /none
