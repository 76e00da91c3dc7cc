// What an ExApp's container does: writes frpc.toml from its environment, as the start.sh of ExApps does, runs frpc, and
// answers every request on a Unix socket.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET "/tmp/exapp.sock"

static void end(int signal) { _exit(signal == SIGTERM ? 0 : 1); }

static int configure(void) {
  FILE *out = fopen("/frpc.toml", "w");
  if (!out)
    return 1;
  fprintf(out, "serverAddr = \"%s\"\nserverPort = %s\nloginFailExit = false\n", getenv("HP_FRP_ADDRESS"), getenv("HP_FRP_PORT"));
  if (access("/certs/frp", F_OK) == 0)
    fputs("transport.tls.enable = true\ntransport.tls.certFile = \"/certs/frp/client.crt\"\n"
          "transport.tls.keyFile = \"/certs/frp/client.key\"\ntransport.tls.trustedCaFile = \"/certs/frp/ca.crt\"\n"
          "transport.tls.serverName = \"harp.nc\"\n", out);
  else
    fputs("transport.tls.enable = false\n", out);
  fprintf(out, "metadatas.token = \"%s\"\n[[proxies]]\nremotePort = %s\ntype = \"tcp\"\nname = \"%s\"\n", getenv("HP_SHARED_KEY"),
          getenv("APP_PORT"), getenv("APP_ID"));
  fputs("[proxies.plugin]\ntype = \"unix_domain_socket\"\nunixPath = \"" SOCKET "\"\n", out);
  return fclose(out);
}

static void answer(int peer) {
  char head[8192];
  size_t count = 0;
  while (count < sizeof head - 1) {
    ssize_t more = read(peer, head + count, sizeof head - 1 - count);
    if (more <= 0)
      break;
    count += more;
    head[count] = 0;
    if (strstr(head, "\r\n\r\n")) {
      const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
      if (write(peer, text, strlen(text)) < 0)
        break;
      shutdown(peer, SHUT_WR);
      break;
    }
  }
  close(peer);
}

int main(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  unlink(SOCKET);
  if (configure() || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16))
    return 3;
  signal(SIGTERM, end);
  signal(SIGPIPE, SIG_IGN);
  if (fork() == 0) {
    execl("/frpc", "frpc", "-c", "/frpc.toml", (char *)NULL);
    _exit(4);
  }
  for (;;)
    answer(accept(listener, NULL, NULL));
}
