# Heredocs of RUN: a script, another shell, a pipe, several
FROM base
ENV A=a
RUN <<EOF
echo $A > /one
false
echo go on >> /one
EOF
RUN <<-"EOF"
	echo "$A" > /two
	EOF
RUN <<EOF
#!/bin/sh -e
echo "$0" > /three
EOF
RUN cat > /four <<EOF && cat <<x > /five
$A
EOF
five
x
RUN cat <<EOF | cat > /six
piped
EOF
RUN [ -f /one ] && cat <<'EOF' >> /one
$A
EOF
