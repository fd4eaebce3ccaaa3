/* Texts as C: embed HEADER TYPE TABLE folder|file FILE... writes `const TYPE TABLE[]`
 * of {name, text}, as HEADER declares it, with an empty row at the end. The name of a
 * text is that of its folder (recipes: .../NAME/recipe.toml) or its own. Runs on the
 * machine that builds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_name(const char *path, int folder)
{
    const char *slash = strrchr(path, '/');
    const char *end = folder ? slash : path + strlen(path), *start = end;
    if (!slash)
        exit(2);
    while (start > path && start[-1] != '/')
        start--;
    printf("%.*s", (int)(end - start), start);
}

static void print_bytes(size_t index, const char *path)
{
    FILE *file = fopen(path, "rb");
    int c;
    if (!file) {
        perror(path);
        exit(1);
    }
    printf("static const char text%zu[] = {", index);
    for (size_t i = 0; (c = getc(file)) != EOF; i++)
        printf("%s'\\x%02x',", i % 16 ? " " : "\n    ", (unsigned)c);
    printf(" 0};\n");
    if (ferror(file) || fclose(file) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    enum { HEADER = 1, TYPE, TABLE, NAMED, FILES };
    if (argc < FILES)
        return 2;
    printf("#include \"%s\"\n", argv[HEADER]);
    for (int i = FILES; i < argc; i++)
        print_bytes((size_t)i, argv[i]);
    printf("const %s %s[] = {\n", argv[TYPE], argv[TABLE]);
    for (int i = FILES; i < argc; i++) {
        printf("    {\"");
        print_name(argv[i], strcmp(argv[NAMED], "folder") == 0);
        printf("\", text%d},\n", i);
    }
    printf("    {0}};\n");
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
