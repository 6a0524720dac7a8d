# ADD: several archives and files, into folders that are there and are not, owners
FROM base
ADD plain.tar packed.tar.gz one.txt /all/
ADD --chown=7:8 plain.tar fake.tar.gz /owned/
ADD --chmod=0700 plain.tar /moded
ADD plain.tar /all/dir/
ADD *.tar.xz /pattern/
ADD dir /folder
