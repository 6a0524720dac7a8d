# ADD: what only has an archive's name, or is compressed and no archive, stays a file
FROM base
ADD fake.tar.gz /fake
ADD one.txt.gz /kept/
ADD dir /folder
ADD one.txt dir /several/
ADD empty /empty/
