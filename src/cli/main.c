/* main.c - the program clattn: finds the command and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_command *const commands[] = {
    &cli_devices,  &cli_run,  &cli_verify, &cli_attend,   &cli_view,
    &cli_bench,    &cli_tune, &cli_train,  &cli_generate, &cli_translate,
    &cli_tokenize, &cli_bpe,  &cli_embed};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *stream) {
  fputs(
      "Usage: clattn COMMAND [OPTION]... [ARGUMENT]...\n"
      "Multi-head attention, and models on it, on OpenCL devices and on the "
      "CPU.\n"
      "\n"
      "Commands:\n",
      stream);
  for (int i = 0; i < N_COMMANDS; i++)
    fprintf(stream, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
  fputs(
      "  help      show this, or the help of a command\n"
      "\n"
      "Options:\n"
      "  -h, --help     show this; after a command, that command's help\n"
      "  -V, --version  show the version\n"
      "\n"
      "Devices are chosen by --device: cpu (the native backend), gpu, opencl,\n"
      "a number as `clattn devices` prints it, or part of a name. Without it,\n"
      "$CLATTN_DEVICE, else the first GPU, else the CPU.\n"
      "\n"
      "Exit status: 0 success, 1 failure, 2 wrong usage.\n",
      stream);
}

static const cli_command *find(const char *name) {
  for (int i = 0; i < N_COMMANDS; i++)
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  return NULL;
}

static int help(const char *name) {
  static const char *const own[] = {"help", "-h", "--help"};
  for (size_t i = 0; name != NULL && i < sizeof own / sizeof *own; i++)
    if (strcmp(name, own[i]) == 0) name = NULL;
  const cli_command *command = name ? find(name) : NULL;
  if (name != NULL && command == NULL)
    return cli_usage(NULL, "no command '%s'", name);
  if (command != NULL)
    fputs(command->help, stdout);
  else
    print_help(stdout);
  return CLI_OK;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return CLI_USAGE;
  }
  const char *word = argv[1];
  if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) return help(NULL);
  if (strcmp(word, "help") == 0) return help(argc > 2 ? argv[2] : NULL);
  if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0) {
    printf("clattn %s\n", clattn_version());
    return CLI_OK;
  }
  const cli_command *command = find(word);
  if (command == NULL) return cli_usage(NULL, "no command '%s'", word);
  return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv) {
  const int status = dispatch(argc, argv);
  /* A full disk or a closed pipe is found when the buffer is written. */
  if (fflush(stdout) != 0 || ferror(stdout)) {
    cli_error("writing to the standard output failed");
    return status == CLI_OK ? CLI_FAILED : status;
  }
  return status;
}
