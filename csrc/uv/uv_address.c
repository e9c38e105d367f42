#include <stdio.h>
#include <stdlib.h>

#include "uv/uv_internal.h"

static int refuse(struct err *e, const char *text, const char *why)
{
    return err_set(e, ERR_ADDRESS, "\"%.300s\" is no address: %s", text, why);
}

static bool parse_port(const char *text, char port[6])
{
    size_t size = strlen(text);
    if (size < 1 || size > 5 || strspn(text, "0123456789") != size) return false;
    long number = strtol(text, NULL, 10);
    snprintf(port, 6, "%ld", number);
    return number >= 1 && number <= 65535;
}

int address_parse(const char *text, struct uv_address *a, struct err *e)
{
    memset(a, 0, sizeof *a);
    bool brackets = text[0] == '[';
    const char *host = brackets ? text + 1 : text;
    const char *end = brackets ? strchr(host, ']') : strrchr(host, ':');
    if (brackets && end != NULL && end[1] != ':') end = NULL;
    if (end == NULL) return refuse(e, text, "expected \"host:port\" or \"[IPv6]:port\"");
    size_t size = (size_t)(end - host);
    if (size == 0 || size >= sizeof a->host) return refuse(e, text, "the host must be 1 to 255 characters");
    memcpy(a->host, host, size);
    if (!brackets && strchr(a->host, ':') != NULL)
        return refuse(e, text, "an IPv6 address needs [ and ] around it");
    if (!parse_port(end + (brackets ? 2 : 1), a->port)) return refuse(e, text, "the port must be 1 to 65535");

    int port = atoi(a->port);
    bool v6 = uv_ip6_addr(a->host, port, (struct sockaddr_in6 *)&a->where) == 0;
    if (brackets && !v6) return refuse(e, text, "between [ and ] an IPv6 address is expected");
    a->numeric = v6 || uv_ip4_addr(a->host, port, (struct sockaddr_in *)&a->where) == 0;
    return OK;
}

size_t address_size(const struct sockaddr *where)
{
    return where->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}
