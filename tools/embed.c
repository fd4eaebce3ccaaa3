/* Texts as C: embed FILE... writes the recipes FILE = .../NAME/recipe.toml as the table
 * jt_recipe_files. Runs on the machine that builds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The folder that holds the file: .../NAME/recipe.toml. */
static void print_name(const char *path)
{
    const char *end = strrchr(path, '/'), *start = end;
    if (!end)
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
    printf("#include \"learn/recipe_impl.h\"\n");
    for (int i = 1; i < argc; i++)
        print_bytes((size_t)i, argv[i]);
    printf("const jt_recipe_file jt_recipe_files[] = {\n");
    for (int i = 1; i < argc; i++) {
        printf("    {\"");
        print_name(argv[i]);
        printf("\", text%d},\n", i);
    }
    printf("    {0}};\n");
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
