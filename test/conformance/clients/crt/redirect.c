/* For an SDK that has no setting for the address of the metadata service: connections to 169.254.169.254:80 go to 127.0.0.1:IMDS_PORT instead,
 * as the firewall's redirect does it on a host. To be preloaded. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int connect(int socket, const struct sockaddr *address, socklen_t length) {
  int (*real)(int, const struct sockaddr *, socklen_t) = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
  const char *port = getenv("IMDS_PORT");
  if (port != NULL && address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in other;
    memcpy(&other, address, sizeof other);
    if (other.sin_addr.s_addr == inet_addr("169.254.169.254") && other.sin_port == htons(80)) {
      other.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      other.sin_port = htons((unsigned short)atoi(port));
      return real(socket, (const struct sockaddr *)&other, sizeof other);
    }
  }
  return real(socket, address, length);
}
