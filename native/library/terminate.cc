// What libstdc++ calls at an exception that nobody catches. Its own would bring along 50 kB to
// print the exception's name; here every one is caught (src/c_api/).
#include <cstdlib>

#ifdef __GLIBCXX__
namespace __gnu_cxx {
void __verbose_terminate_handler();
void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx
#endif
