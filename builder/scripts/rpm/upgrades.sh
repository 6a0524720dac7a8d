# Says what the base's repositories have newer than the base itself.
distribution
private_dnf --quiet repoquery --upgrades --latest-limit=1 --qf '%{repoid} %{name} %{evr}\n' | sed 's/\\n$//' | while read -r origin name newest; do
    if [ -n "$newest" ]; then echo "twostage: upgrade $name $(rpm -q --qf '%{EVR}\n' "$name" | tail -n 1) $newest $origin"; fi
done
