# Says what the base's repositories have newer than the base itself, and which versions of packages
# their advisories give as mending a fault of security.
distribution
refresh
newer | while read -r origin name newest; do
    if [ -n "$newest" ]; then echo "twostage: upgrade $name $(rpm -q --qf '%{EVR}\n' -- "$name" | tail -n 1) $newest $origin"; fi
done
security | sort -u | sed 's/^/twostage: security /'
