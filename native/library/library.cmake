# libtinyvox: the C API, with nothing else to be seen from outside and nothing else needed.
include(GNUInstallDirs)
enable_language(C)
file(STRINGS native/include/tinyvox.h version REGEX "define TV_VERSION")
string(REGEX MATCH "[0-9.]+" version "${version}")

add_library(tinyvox SHARED ${c_api})
target_link_libraries(tinyvox PRIVATE tinyvox_core)
target_include_directories(tinyvox PUBLIC
                           $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/native/include>)
set_target_properties(tinyvox PROPERTIES VERSION ${version} SOVERSION 0
                      CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
if(APPLE)
  target_link_options(tinyvox PRIVATE -Wl,-dead_strip,-exported_symbol,_tv_*)
else()
  # The C++ library comes along, as far as it is called. Its templates are visible whatever the
  # preset, so a map hides them.
  set(exports ${CMAKE_CURRENT_LIST_DIR}/exports.map)
  target_sources(tinyvox PRIVATE ${CMAKE_CURRENT_LIST_DIR}/terminate.cc)
  target_link_options(tinyvox PRIVATE -static-libstdc++ -static-libgcc
                      -Wl,--gc-sections,--version-script=${exports})
  set_target_properties(tinyvox PROPERTIES LINK_DEPENDS ${exports})
endif()

add_executable(transcribe native/examples/transcribe.c native/examples/wav.c
                          native/examples/resample.c)
set_target_properties(transcribe PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_compile_options(transcribe PRIVATE -Wall -Wextra -pedantic)
target_link_libraries(transcribe PRIVATE tinyvox $<$<NOT:$<PLATFORM_ID:Windows>>:m>)

install(TARGETS tinyvox)
install(FILES native/include/tinyvox.h native/include/deepspeech_compat.h
              native/include/deepspeech_errors.h TYPE INCLUDE)
