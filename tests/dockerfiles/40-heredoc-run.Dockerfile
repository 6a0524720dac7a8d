# RUN: documents as commands, as scripts, for the shell
FROM base
RUN <<END
echo first > /lines
echo second $BASE >> /lines
END
RUN <<END
#!/bin/sh -e
echo "$0 $BASE" > /script
END
RUN <<-END
	echo tabs > /tabs
		END
RUN cat <<A > /within
heredoc $BASE of the shell
A
RUN cat <<'A' > /quoted; cat <<B > /second
not $expanded
A
$BASE
B
RUN <<A cat > /input
standard input
A
