/* A program without a C library that could be replaced: linked statically, and with calls of its own. It prints what it
 * finds, a line each. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

static int make(void) {
  struct sockaddr_nl own = {.nl_family = AF_NETLINK};
  int s = syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  syscall(SYS_bind, s, &own, sizeof own);
  return s;
}

/* Asks, and reads one answer; says whether it came from the kernel to this socket. */
static int ask(int s, int type, const void *body, int length, char *answer) {
  char request[128] = {0};
  struct nlmsghdr *head = (void *)request;
  struct sockaddr_nl own, from;
  socklen_t size = sizeof own;
  *head = (struct nlmsghdr){.nlmsg_len = 16 + length, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 7};
  memcpy(request + 16, body, length);
  struct iovec piece = {request, 16 + length};
  struct msghdr message = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &piece, .msg_iovlen = 1};
  syscall(SYS_sendmsg, s, &message, 0);
  memset(&from, 0xff, sizeof from);
  piece = (struct iovec){answer, 8192};
  message = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece, .msg_iovlen = 1};
  int count = syscall(SYS_recvmsg, s, &message, 0);
  syscall(SYS_getsockname, s, &own, &size);
  head = (void *)answer;
  return count >= 16 && from.nl_family == AF_NETLINK && from.nl_pid == 0 && message.msg_namelen == sizeof from &&
         head->nlmsg_pid == own.nl_pid && own.nl_pid != 0;
}

static int family(void) {
  static const char question[] = "\3\1\0\0\11\0\2\0IPVS\0\0\0";
  char answer[8192];
  if (!ask(make(), GENL_ID_CTRL, question, sizeof question, answer)) return -1;
  for (int at = 20; at + 6 <= *(int *)answer; at += (*(unsigned short *)(answer + at) + 3) & ~3)
    if (*(short *)(answer + at + 2) == CTRL_ATTR_FAMILY_ID) return *(unsigned short *)(answer + at + 4);
  return -1;
}

static void *in_thread(void *of) {
  char answer[8192];
  printf("thread %d\n", ask(make(), *(int *)of, "\17\1\0\0", 4, answer) && answer[16] == 14);
  return 0;
}

int main(void) {
  char answer[8192], text[64] = {0};
  setbuf(stdout, 0);
  int id = family();
  printf("family %d\n", id > 0);
  printf("another socket %d\n", ask(make(), id, "\17\1\0\0", 4, answer) && answer[16] == 14);
  pthread_t thread;
  pthread_create(&thread, 0, in_thread, &id);
  pthread_join(thread, 0);
  if (!fork()) {
    printf("child %d\n", ask(make(), id, "\17\1\0\0", 4, answer) && answer[16] == 14);
    return 0;
  }
  syscall(SYS_wait4, -1, 0, 0, 0);
  int folder = syscall(SYS_openat, AT_FDCWD, "/proc/self/net", O_RDONLY | O_DIRECTORY, 0);
  struct { unsigned long long flags, mode, resolve; } how = {O_RDONLY, 0, 0};
  int file = syscall(SYS_openat2, folder, "ip_vs", &how, sizeof how);
  syscall(SYS_read, file, text, 28);
  printf("file %s\n", text);
  syscall(SYS_chdir, "/proc/sys/net/ipv4");
  int value = syscall(SYS_openat, AT_FDCWD, "vs/sloppy_tcp", O_WRONLY | O_TRUNC, 0);
  printf("switch %ld %ld\n", syscall(SYS_write, value, "1\n", 2), syscall(SYS_write, value, "no\n", 3));
  printf("long %ld\n", syscall(SYS_write, value, "1                              \n", 32));
  return 0;
}
