// What the containers of these tests run: one static program in several parts.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM ? 0 : 1); }

static int make(const char *path) { return open(path, O_CREAT | O_WRONLY, 0644) < 0; }

static int has(const char *name) { return getenv(name) != NULL; }

int main(int count, char **words) {
  if (strstr(words[0], "update-ca-certificates"))
    return make("/etc/updated");
  if (count > 1)  // the health check
    return access("/healthy", F_OK) != 0;
  if (has("FAILS"))
    return 3;
  if (has("HEALTHY"))
    make("/healthy");
  signal(SIGTERM, end);
  if (write(1, "up\n", 3) != 3)
    return 4;
  for (;;)
    pause();
}
