# apply_patches FOLDER [WHERE [OPTION]]: applies the patches in a folder to what is here, in order. WHERE is what people are told.
apply_patches() {
    for patch in "$1"/*; do
        [ -e "$patch" ] || continue
        echo "twostage: applying ${patch##*/}${2:+ to $2}"
        patch --strip=1 --batch --forward ${3:+"$3"} --input="$patch"
    done
}
