# Everything is built with sanitizers, in a build folder of its own. With libFuzzer (Clang only) or
# with our driver, the targets are the same.
option(TINYVOX_LIBFUZZER "Build the fuzz targets for libFuzzer" OFF)
enable_language(C)

set(sanitizers address,undefined,float-cast-overflow)
if(TINYVOX_LIBFUZZER)
  set(driver libfuzzer.cc)
  set(coverage -fsanitize=fuzzer-no-link)
  set(at_link -fsanitize=fuzzer)
else()
  set(driver driver.cc)
  set(coverage -fsanitize-coverage=trace-pc)
endif()
set(sanitized -g -fno-omit-frame-pointer -fsanitize=${sanitizers} -fno-sanitize-recover=all)
target_compile_options(tinyvox_core PRIVATE ${sanitized} ${coverage})
target_compile_definitions(tinyvox_core PRIVATE _GLIBCXX_ASSERTIONS)

set(fuzz ${CMAKE_CURRENT_LIST_DIR})
add_library(fuzz_mutations OBJECT ${fuzz}/mutate.cc ${fuzz}/mutate_bytes.cc ${fuzz}/fit.cc
            ${fuzz}/tensors.cc ${fuzz}/write.cc ${fuzz}/cost.cc ${fuzz}/${driver})
target_link_libraries(fuzz_mutations PUBLIC tinyvox_core)
target_compile_options(fuzz_mutations PRIVATE ${sanitized})

function(add_target name)
  add_executable(${name} ${ARGN} native/src/c_api.cc)
  target_link_libraries(${name} PRIVATE fuzz_mutations tinyvox_core)
  target_include_directories(${name} PRIVATE native/include)
  target_compile_options(${name} PRIVATE ${sanitized})
  target_link_options(${name} PRIVATE -fsanitize=${sanitizers} ${at_link})
endfunction()
add_target(fuzz_file ${fuzz}/file_target.cc)
add_target(fuzz_wav ${fuzz}/wav_target.cc ${fuzz}/wav_example.c)
